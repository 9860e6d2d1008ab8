-- +goose Up
-- One row per device: what a rollout has assigned to it (target_*), and what is
-- observed of it.
CREATE TABLE device_status (
    org             TEXT   NOT NULL,
    device          TEXT   NOT NULL,
    target_revision BIGINT NOT NULL,
    target_keep     TEXT   NOT NULL,
    target_hash     TEXT   NOT NULL,
    revision        BIGINT NOT NULL,
    hash            TEXT   NOT NULL,
    commit_id       TEXT   NOT NULL,
    outcome         TEXT   NOT NULL,
    error           TEXT   NOT NULL,
    drifts          BIGINT NOT NULL,
    at              TEXT   NOT NULL,
    PRIMARY KEY (org, device)
);

-- A rollout as its controller sees it; doc is its JSON.
CREATE TABLE rollouts (
    org      TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    revision BIGINT NOT NULL,
    state    TEXT   NOT NULL,
    doc      TEXT   NOT NULL,
    PRIMARY KEY (org, id)
);

-- Every push, written before it is made and again when it has ended.
-- Append-only.
CREATE TABLE push_journal (
    org       TEXT   NOT NULL,
    id        TEXT   NOT NULL,
    at        TEXT   NOT NULL,
    rollout   TEXT   NOT NULL,
    device    TEXT   NOT NULL,
    revision  BIGINT NOT NULL,
    hash      TEXT   NOT NULL,
    commit_id TEXT   NOT NULL,
    step      TEXT   NOT NULL,
    error     TEXT   NOT NULL,
    PRIMARY KEY (org, id)
);
CREATE INDEX push_journal_by_rollout ON push_journal (org, rollout, id);
CREATE TRIGGER push_journal_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON push_journal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
