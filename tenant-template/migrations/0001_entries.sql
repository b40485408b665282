-- The cash book. Amounts are whole minor units (hundredths): exact, never a float. Income is positive, expense negative.
CREATE TABLE entry (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Made with the form that was sent: the same form sent twice is one entry.
    request     uuid NOT NULL UNIQUE,
    on_date     date NOT NULL,
    description text NOT NULL CHECK (char_length(description) BETWEEN 1 AND 200),
    amount      bigint NOT NULL CHECK (amount <> 0 AND amount BETWEEN -999999999999 AND 999999999999),
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- The book's order; with the amount in it, balances and month totals are read from the index alone.
CREATE INDEX entry_order ON entry (on_date, id) INCLUDE (amount);

-- The app reads which migrations ran; only migrations write it.
REVOKE INSERT, UPDATE, DELETE ON _sqlx_migrations FROM app;
