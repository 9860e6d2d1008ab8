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

-- Every append-only table has this function as a trigger.
-- +goose StatementBegin
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END;
$$;
-- +goose StatementEnd
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
