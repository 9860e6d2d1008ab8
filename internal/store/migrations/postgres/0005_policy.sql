-- +goose Up
-- The decision log: one chain per writer, append-only.
CREATE TABLE decisions (
    org         TEXT   NOT NULL,
    id          TEXT   NOT NULL,
    writer      TEXT   NOT NULL,
    seq         BIGINT NOT NULL,
    at          TEXT   NOT NULL,
    subject     TEXT   NOT NULL,
    device      TEXT   NOT NULL,
    application TEXT   NOT NULL,
    code        TEXT   NOT NULL,
    allow       BIGINT NOT NULL,
    doc         TEXT   NOT NULL,
    PRIMARY KEY (org, id),
    UNIQUE (org, writer, seq)
);
CREATE INDEX decisions_by_subject ON decisions (org, subject, id);
CREATE INDEX decisions_by_device ON decisions (org, device, id);
CREATE INDEX decisions_by_application ON decisions (org, application, id);
CREATE INDEX decisions_by_allow ON decisions (org, allow);


CREATE TRIGGER decisions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON decisions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- People and services that ask for access.
CREATE TABLE subjects (
    org    TEXT   NOT NULL,
    id     TEXT   NOT NULL,
    name   TEXT   NOT NULL,
    "groups" TEXT   NOT NULL,
    active BIGINT NOT NULL,
    PRIMARY KEY (org, id)
);

-- What was last measured of each device, so that a restart does not forget it.
CREATE TABLE device_postures (
    org       TEXT   NOT NULL,
    device    TEXT   NOT NULL,
    compliant BIGINT NOT NULL,
    source    TEXT   NOT NULL,
    at        TEXT   NOT NULL,
    PRIMARY KEY (org, device)
);
