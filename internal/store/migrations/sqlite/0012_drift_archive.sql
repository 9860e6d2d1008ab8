-- +goose Up
-- Devices found changed past the controller, one row for each time.
CREATE TABLE drifts (
    org    TEXT NOT NULL,
    id     TEXT NOT NULL,
    device TEXT NOT NULL,
    state  TEXT NOT NULL,
    doc    TEXT NOT NULL,
    PRIMARY KEY (org, id)
);
CREATE INDEX drifts_device ON drifts (org, device, id);

-- Configurations as devices ran them; the text is gzipped.
CREATE TABLE config_archive (
    org      TEXT   NOT NULL,
    device   TEXT   NOT NULL,
    n        BIGINT NOT NULL,
    at       TEXT   NOT NULL,
    revision BIGINT NOT NULL,
    hash     TEXT   NOT NULL,
    source   TEXT   NOT NULL,
    complete BIGINT  NOT NULL,
    bytes    BIGINT NOT NULL,
    note     TEXT   NOT NULL,
    text     BLOB   NOT NULL,
    PRIMARY KEY (org, device, n)
);

-- What is on trial on devices that cannot keep it themselves.
CREATE TABLE device_commits (
    org    TEXT NOT NULL,
    device TEXT NOT NULL,
    doc    TEXT NOT NULL,
    PRIMARY KEY (org, device)
);

-- Changes that several people prepare before they become a revision.
CREATE TABLE baskets (
    org     TEXT   NOT NULL,
    id      TEXT   NOT NULL,
    version BIGINT NOT NULL,
    doc     TEXT   NOT NULL,
    PRIMARY KEY (org, id)
);

-- Who else prepared a revision, and so may not approve it: a JSON list.
ALTER TABLE revisions ADD COLUMN others TEXT NOT NULL DEFAULT '[]';
