-- +goose Up
-- Enrolment tokens, by hash alone. used_at, csr_hash and certificate are set
-- together, once.
CREATE TABLE pki_tokens (
    org         TEXT NOT NULL,
    hash        TEXT NOT NULL,
    device      TEXT NOT NULL,
    serial      TEXT NOT NULL,
    created_by  TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    expires_at  TEXT NOT NULL,
    used_at     TEXT NOT NULL DEFAULT '',
    csr_hash    TEXT NOT NULL DEFAULT '',
    certificate TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (org, hash)
);
CREATE INDEX pki_tokens_by_device ON pki_tokens (org, device);

-- Ids of signed one-time tokens, until they could not be presented any more.
CREATE TABLE pki_used_tokens (
    org        TEXT NOT NULL,
    id         TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    PRIMARY KEY (org, id)
);

-- One CSR, one certificate.
CREATE TABLE pki_certificates (
    org           TEXT NOT NULL,
    serial        TEXT NOT NULL,
    issuer        TEXT NOT NULL,
    issuer_key    TEXT NOT NULL,
    subject       TEXT NOT NULL,
    spiffe_id     TEXT NOT NULL,
    device        TEXT NOT NULL,
    lineage       TEXT NOT NULL,
    parent        TEXT NOT NULL,
    csr_hash      TEXT NOT NULL,
    wireguard_key TEXT NOT NULL,
    not_before    TEXT NOT NULL,
    not_after     TEXT NOT NULL,
    issued_at     TEXT NOT NULL,
    issued_by     TEXT NOT NULL,
    chain         TEXT NOT NULL,
    PRIMARY KEY (org, serial),
    UNIQUE (org, csr_hash)
);
CREATE INDEX pki_certificates_by_lineage ON pki_certificates (org, lineage);
CREATE INDEX pki_certificates_by_time ON pki_certificates (org, issued_at);

-- One row per enrolment; wireguard_key is the one in use.
CREATE TABLE pki_lineages (
    org           TEXT NOT NULL,
    lineage       TEXT NOT NULL,
    device        TEXT NOT NULL,
    wireguard_key TEXT NOT NULL,
    started_at    TEXT NOT NULL,
    revoked_at    TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (org, lineage)
);
CREATE INDEX pki_lineages_by_device ON pki_lineages (org, device);

-- Every WireGuard key ever bound, so that none serves two lineages.
CREATE TABLE pki_wireguard_keys (
    org        TEXT NOT NULL,
    public_key TEXT NOT NULL,
    lineage    TEXT NOT NULL,
    PRIMARY KEY (org, public_key)
);

-- The revocation log: append-only, and complete in itself, for it may name
-- certificates that a restored database has forgotten.
CREATE TABLE pki_revocations (
    org        TEXT   NOT NULL,
    serial     TEXT   NOT NULL,
    seq        BIGINT NOT NULL,
    issuer_key TEXT   NOT NULL,
    device     TEXT   NOT NULL,
    lineage    TEXT   NOT NULL,
    reason     TEXT   NOT NULL,
    revoked_by TEXT   NOT NULL,
    revoked_at TEXT   NOT NULL,
    not_after  TEXT   NOT NULL,
    PRIMARY KEY (org, serial),
    UNIQUE (org, seq)
);

-- Numbers that only rise: peer epoch, log sequence, CRL numbers.
CREATE TABLE pki_counters (
    org   TEXT   NOT NULL,
    name  TEXT   NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (org, name)
);

-- The key id of the root this database belongs to.
CREATE TABLE pki_root (
    org    TEXT NOT NULL PRIMARY KEY,
    key_id TEXT NOT NULL
);

CREATE TRIGGER pki_revocations_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON pki_revocations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
