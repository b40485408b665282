-- Exports of tenants that end: the whole database, sealed for a recipient that the plan names. Kept until they are fetched
-- or their time is over.

CREATE TABLE exports (
    tenant_uid  uuid        PRIMARY KEY REFERENCES tenants (uid),
    bytes       bigint      NOT NULL,
    sha256      text        NOT NULL,
    sealed_with text        NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT exports_bytes_are_counted CHECK (bytes > 0),
    CONSTRAINT exports_sha256_is_one CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT exports_sealed_with_is_named CHECK (sealed_with <> '')
);

COMMENT ON TABLE exports IS
    'Source of truth for which export of a tenant is complete, and for its digest. Gone when its time is over; the '
    'deletion record keeps the digest.';

CREATE TABLE export_pieces (
    tenant_uid uuid    NOT NULL REFERENCES tenants (uid),
    number     integer NOT NULL,
    content    bytea   NOT NULL,
    PRIMARY KEY (tenant_uid, number),
    CONSTRAINT export_pieces_are_counted CHECK (number >= 0),
    CONSTRAINT export_pieces_are_small CHECK (octet_length(content) BETWEEN 1 AND 1048576)
);

-- What is sealed does not compress.
ALTER TABLE export_pieces ALTER COLUMN content SET STORAGE EXTERNAL;

COMMENT ON TABLE export_pieces IS
    'Source of truth for the content of exports, in pieces of at most 1 MiB, in order. Sealed: the plane cannot read it. '
    'Without a row in exports they are what an interruption left, and are dropped by the next attempt.';

REVOKE ALL ON exports, export_pieces FROM app;
-- A tenant that came back and ends again is exported again.
GRANT SELECT, INSERT, DELETE ON exports, export_pieces TO app;
GRANT SELECT ON exports, export_pieces TO auditor;
