-- +goose Up
-- Who wrote what, from where, before and after. Append-only; hash chains each
-- row to the one before it.
CREATE TABLE audit (
    org       TEXT   NOT NULL,
    seq       BIGINT NOT NULL,
    at        TEXT   NOT NULL,
    who       TEXT   NOT NULL,
    origin    TEXT   NOT NULL,
    what      TEXT   NOT NULL,
    object    TEXT   NOT NULL,
    before    TEXT   NOT NULL,
    after     TEXT   NOT NULL,
    outcome   TEXT   NOT NULL,
    reason    TEXT   NOT NULL,
    prev_hash TEXT   NOT NULL,
    hash      TEXT   NOT NULL,
    PRIMARY KEY (org, seq)
);
CREATE INDEX audit_by_object ON audit (org, object, seq);

-- +goose StatementBegin
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit is append-only');
END;
-- +goose StatementEnd
