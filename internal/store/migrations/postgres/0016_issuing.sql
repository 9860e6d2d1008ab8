-- +goose Up
-- What is known of a certificate of the services issuer beyond its row in
-- pki_certificates. names is a JSON list of text; acme_* are empty unless ACME
-- issued it; replaced_by is the order that replaces it (RFC 9773 §5).
CREATE TABLE pki_services (
    org          TEXT NOT NULL,
    serial       TEXT NOT NULL,
    provisioner  TEXT NOT NULL,
    names        TEXT NOT NULL,
    acme_account TEXT NOT NULL DEFAULT '',
    acme_order   TEXT NOT NULL DEFAULT '',
    replaced_by  TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (org, serial)
);
CREATE INDEX pki_services_by_account ON pki_services (org, acme_account);

-- One account per key (RFC 8555 §7.3.1); jwk is its public key, contact a JSON
-- list of URLs.
CREATE TABLE acme_accounts (
    org              TEXT NOT NULL,
    id               TEXT NOT NULL,
    key_id           TEXT NOT NULL,
    jwk              TEXT NOT NULL,
    contact          TEXT NOT NULL,
    status           TEXT NOT NULL,
    location         TEXT NOT NULL,
    provisioner      TEXT NOT NULL,
    provisioner_name TEXT NOT NULL,
    created_at       TEXT NOT NULL,
    PRIMARY KEY (org, id),
    UNIQUE (org, key_id)
);

-- Keys for external account binding (RFC 8555 §7.3.4). A used key is emptied.
CREATE TABLE acme_external_keys (
    org         TEXT NOT NULL,
    id          TEXT NOT NULL,
    provisioner TEXT NOT NULL,
    reference   TEXT NOT NULL,
    hmac_key    TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    account     TEXT NOT NULL DEFAULT '',
    bound_at    TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (org, id)
);
CREATE INDEX acme_external_keys_by_account ON acme_external_keys (org, account);

-- An order is written with its authorizations and challenges at once. fault is
-- the problem document of one that failed, JSON.
CREATE TABLE acme_orders (
    org         TEXT NOT NULL,
    id          TEXT NOT NULL,
    account     TEXT NOT NULL,
    provisioner TEXT NOT NULL,
    status      TEXT NOT NULL,
    not_before  TEXT NOT NULL,
    not_after   TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    expires_at  TEXT NOT NULL,
    certificate TEXT NOT NULL DEFAULT '',
    fault       TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (org, id)
);
CREATE INDEX acme_orders_by_account ON acme_orders (org, account, status);
CREATE INDEX acme_orders_by_end ON acme_orders (org, expires_at);

CREATE TABLE acme_authorizations (
    org         TEXT   NOT NULL,
    id          TEXT   NOT NULL,
    acme_order  TEXT   NOT NULL,
    place       BIGINT NOT NULL,
    account     TEXT   NOT NULL,
    kind        TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    wildcard    BIGINT NOT NULL,
    token       TEXT   NOT NULL,
    fingerprint TEXT   NOT NULL,
    status      TEXT   NOT NULL,
    expires_at  TEXT   NOT NULL,
    fault       TEXT   NOT NULL DEFAULT '',
    PRIMARY KEY (org, id)
);
CREATE INDEX acme_authorizations_by_order ON acme_authorizations (org, acme_order);

CREATE TABLE acme_challenges (
    org            TEXT   NOT NULL,
    id             TEXT   NOT NULL,
    acme_order     TEXT   NOT NULL,
    authz TEXT   NOT NULL,
    place          BIGINT NOT NULL,
    account        TEXT   NOT NULL,
    kind           TEXT   NOT NULL,
    name           TEXT   NOT NULL,
    token          TEXT   NOT NULL,
    status         TEXT   NOT NULL,
    validated_at   TEXT   NOT NULL DEFAULT '',
    fault          TEXT   NOT NULL DEFAULT '',
    PRIMARY KEY (org, id)
);
CREATE INDEX acme_challenges_by_authorization ON acme_challenges (org, authz);
CREATE INDEX acme_challenges_by_order ON acme_challenges (org, acme_order);

-- Nonces that were used, until they could not be presented any more. Unused ones
-- are kept nowhere: they carry their proof, made with the key below.
CREATE TABLE acme_used_nonces (
    org        TEXT NOT NULL,
    nonce      TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    PRIMARY KEY (org, nonce)
);
CREATE INDEX acme_used_nonces_by_end ON acme_used_nonces (org, expires_at);

CREATE TABLE acme_nonce_keys (
    org      TEXT NOT NULL PRIMARY KEY,
    hmac_key TEXT NOT NULL
);
