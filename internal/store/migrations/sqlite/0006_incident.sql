-- +goose Up
-- Incidents, one per cause. number counts from 1 in each year; doc is JSON.
CREATE TABLE incidents (
    org        TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    year       BIGINT NOT NULL,
    number     BIGINT NOT NULL,
    state      TEXT   NOT NULL,
    cause_kind TEXT   NOT NULL,
    cause      TEXT   NOT NULL,
    opened     TEXT   NOT NULL,
    doc        TEXT   NOT NULL,
    PRIMARY KEY (org, id)
);
CREATE UNIQUE INDEX incidents_by_number ON incidents (org, year, number);
CREATE INDEX incidents_by_opened ON incidents (org, opened);

-- Findings that are members of an incident; doc is JSON.
CREATE TABLE incident_symptoms (
    org      TEXT NOT NULL,
    incident TEXT NOT NULL,
    id       TEXT NOT NULL,
    since    TEXT NOT NULL,
    doc      TEXT NOT NULL,
    PRIMARY KEY (org, incident, id)
);

-- The tickets' timelines. Append-only.
CREATE TABLE incident_timeline (
    org      TEXT   NOT NULL,
    incident TEXT   NOT NULL,
    seq      BIGINT NOT NULL,
    at       TEXT   NOT NULL,
    who      TEXT   NOT NULL,
    what     TEXT   NOT NULL,
    said     TEXT   NOT NULL,
    PRIMARY KEY (org, incident, seq)
);

-- +goose StatementBegin
CREATE TRIGGER incident_timeline_no_update BEFORE UPDATE ON incident_timeline
BEGIN
    SELECT RAISE(ABORT, 'incident_timeline is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER incident_timeline_no_delete BEFORE DELETE ON incident_timeline
BEGIN
    SELECT RAISE(ABORT, 'incident_timeline is append-only');
END;
-- +goose StatementEnd
