-- Descriptions are encrypted with the tenant's key. SQL has no key, so nothing is encrypted here. In three steps:
--   1. here: the column for the sealed text;
--   2. this build and those after it write only that one, and seal in the background what they find in `description`;
--   3. a later release drops `description`, when no row needs it and no build from before runs any more.
-- Builds from before go on with the new schema: what they write is sealed later, and where a newer build wrote they show
-- the default below.
ALTER TABLE entry
    ALTER COLUMN description SET DEFAULT '(encrypted)',
    -- format (1 byte), version of the key (4), nonce (12), ciphertext, tag (16); the text is 1 to 200 characters in UTF-8.
    ADD COLUMN description_sealed bytea CHECK (octet_length(description_sealed) BETWEEN 34 AND 833);

-- By format and version of the key, so that looking for what is not sealed with the newest one costs nothing when all is.
CREATE INDEX entry_description_key ON entry (substring(description_sealed FROM 1 FOR 5));
