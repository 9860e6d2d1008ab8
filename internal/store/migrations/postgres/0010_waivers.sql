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
    signature BYTEA  NOT NULL,
    PRIMARY KEY (org, revision, n),
    FOREIGN KEY (org, revision) REFERENCES revisions (org, number)
);
CREATE TRIGGER waivers_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON waivers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
