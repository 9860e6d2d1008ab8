-- +goose Up
-- The hash of what commit_id pushed: tells whether the device keeps it when its
-- answer was lost. Empty: no push, or one of a version before this.
ALTER TABLE device_status ADD COLUMN pushed TEXT NOT NULL DEFAULT '';
