-- +goose Up
-- Searches and purges of certificates and tokens.
CREATE INDEX pki_certificates_by_device ON pki_certificates (org, device, issued_at);
CREATE INDEX pki_certificates_by_issuer ON pki_certificates (org, issuer, issued_at);
CREATE INDEX pki_certificates_by_author ON pki_certificates (org, issued_by, issued_at);
CREATE INDEX pki_certificates_by_end ON pki_certificates (org, not_after);
CREATE INDEX pki_revocations_by_time ON pki_revocations (org, revoked_at);
CREATE INDEX pki_tokens_by_end ON pki_tokens (org, expires_at);
CREATE INDEX pki_used_tokens_by_end ON pki_used_tokens (org, expires_at);
CREATE INDEX pki_wireguard_keys_by_lineage ON pki_wireguard_keys (org, lineage);

-- An offline token is good for one CSR only, which a person confirms.
ALTER TABLE pki_tokens ADD COLUMN offline BIGINT NOT NULL DEFAULT 0;
ALTER TABLE pki_tokens ADD COLUMN confirmed_csr TEXT NOT NULL DEFAULT '';
ALTER TABLE pki_tokens ADD COLUMN confirmed_by TEXT NOT NULL DEFAULT '';
ALTER TABLE pki_tokens ADD COLUMN confirmed_at TEXT NOT NULL DEFAULT '';

-- Who has shown an offline token and waits for a person.
CREATE TABLE pki_pending (
    org      TEXT NOT NULL,
    hash     TEXT NOT NULL,
    csr_hash TEXT NOT NULL,
    device   TEXT NOT NULL,
    serial   TEXT NOT NULL,
    remote   TEXT NOT NULL,
    first_at TEXT NOT NULL,
    last_at  TEXT NOT NULL,
    PRIMARY KEY (org, hash, csr_hash)
);

-- When certificates could be had: stretches of time without a gap.
CREATE TABLE pki_uptime (
    org      TEXT NOT NULL,
    from_at  TEXT NOT NULL,
    until_at TEXT NOT NULL,
    PRIMARY KEY (org, from_at)
);

-- Devices that a person has to look at; released_at is empty until then.
CREATE TABLE pki_quarantine (
    org            TEXT NOT NULL,
    device         TEXT NOT NULL,
    since          TEXT NOT NULL,
    reason         TEXT NOT NULL,
    released_at    TEXT NOT NULL DEFAULT '',
    released_by    TEXT NOT NULL DEFAULT '',
    release_reason TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (org, device, since)
);
