-- +goose Up
-- A waiver of a revision whose proof does not hold. Waivers are append-only.
CREATE TABLE waivers (
    org       TEXT   NOT NULL,
    revision  BIGINT NOT NULL,
    n         BIGINT NOT NULL,
    hash      TEXT   NOT NULL,
    waived_by TEXT   NOT NULL,
    reason    TEXT   NOT NULL,
    finding   TEXT   NOT NULL,
    at        TEXT   NOT NULL,
    until     TEXT   NOT NULL,
    key_id    TEXT   NOT NULL,
    signature BLOB   NOT NULL,
    PRIMARY KEY (org, revision, n),
    FOREIGN KEY (org, revision) REFERENCES revisions (org, number)
);

-- +goose StatementBegin
CREATE TRIGGER waivers_no_update BEFORE UPDATE ON waivers
BEGIN
    SELECT RAISE(ABORT, 'waivers is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER waivers_no_delete BEFORE DELETE ON waivers
BEGIN
    SELECT RAISE(ABORT, 'waivers is append-only');
END;
-- +goose StatementEnd
