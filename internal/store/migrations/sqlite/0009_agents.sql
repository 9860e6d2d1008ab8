-- +goose Up
-- An agent binary that was added and signed; its file is in the data directory
-- under its hash.
CREATE TABLE agent_releases (
    org       TEXT   NOT NULL,
    version   TEXT   NOT NULL,
    goos      TEXT   NOT NULL,
    goarch    TEXT   NOT NULL,
    size      BIGINT NOT NULL,
    sha256    BLOB   NOT NULL,
    key_id    TEXT   NOT NULL,
    signature BLOB   NOT NULL,
    added     TEXT   NOT NULL,
    added_by  TEXT   NOT NULL,
    PRIMARY KEY (org, version, goos, goarch)
);

-- A rollout of agents as its conductor sees it; doc is its JSON.
CREATE TABLE agent_rollouts (
    org     TEXT NOT NULL,
    id      TEXT NOT NULL,
    version TEXT NOT NULL,
    state   TEXT NOT NULL,
    doc     TEXT NOT NULL,
    PRIMARY KEY (org, id)
);

-- Where each device of such a rollout stands; doc is its JSON. The commit id is
-- written before the device hears of it.
CREATE TABLE agent_devices (
    org       TEXT NOT NULL,
    rollout   TEXT NOT NULL,
    device    TEXT NOT NULL,
    phase     TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    doc       TEXT NOT NULL,
    PRIMARY KEY (org, rollout, device)
);
