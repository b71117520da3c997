-- The index of an audit log in PostgreSQL; once, as its superuser: psql -d DATABASE -f postgres.sql
-- Nobody logs in as the owner, and who writes can read and insert. GRANT airgap_audit_writer TO whoever searches.
BEGIN;
CREATE ROLE airgap_audit_owner NOLOGIN;
CREATE ROLE airgap_audit_writer NOLOGIN;
CREATE SCHEMA airgap_audit AUTHORIZATION airgap_audit_owner;
SET LOCAL ROLE airgap_audit_owner;
CREATE TABLE airgap_audit.entries (
  seq bigint PRIMARY KEY, sha256 bytea NOT NULL, kind text, "time" text, user_id text, key_id text, client_ip text,
  "role" text, model text, policy_id text, decision text, request_id text, "of" bigint
);
CREATE INDEX by_user ON airgap_audit.entries (user_id, "time");
CREATE INDEX by_time ON airgap_audit.entries ("time");
CREATE INDEX by_request ON airgap_audit.entries (request_id);
CREATE INDEX by_of ON airgap_audit.entries ("of");
REVOKE ALL ON airgap_audit.entries FROM PUBLIC;
REVOKE UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON airgap_audit.entries FROM airgap_audit_writer;
GRANT USAGE ON SCHEMA airgap_audit TO airgap_audit_writer;
GRANT SELECT, INSERT ON airgap_audit.entries TO airgap_audit_writer;
COMMIT;
