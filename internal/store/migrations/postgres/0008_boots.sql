-- +goose Up
-- The timeline of a device's first boots, one row per device; doc is its JSON,
-- bounded. open is 1 between a certificate and the first confirmed
-- configuration after it.
CREATE TABLE device_boots (
    org    TEXT   NOT NULL,
    device TEXT   NOT NULL,
    open   BIGINT NOT NULL,
    doc    TEXT   NOT NULL,
    PRIMARY KEY (org, device)
);
CREATE INDEX device_boots_open ON device_boots (org, open);
