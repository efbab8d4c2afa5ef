-- Run by the owner after every migration, in its transaction: no table can be forgotten.
--
-- Every table but `migrations` shows and takes only rows of the namespace that the transaction has set, to its owner too. The engine's role
-- reads and writes rows, but those of the log it only adds: it deletes there what has got its position, and bodies, which a trigger guards.
DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'orbit_runtime') THEN
        CREATE ROLE orbit_runtime LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    -- Another migration, of another database of this server, was faster.
    NULL;
END $$;

DO $$
DECLARE
    name TEXT;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO orbit_runtime', current_schema());
    GRANT SELECT ON migrations TO orbit_runtime;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename <> 'migrations' LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('DROP POLICY IF EXISTS own_namespace ON %I', name);
        EXECUTE format(
            'CREATE POLICY own_namespace ON %I USING (namespace = current_setting(''orbit.namespace'', true))
                WITH CHECK (namespace = current_setting(''orbit.namespace'', true))',
            name
        );
        EXECUTE format('REVOKE ALL ON %I FROM orbit_runtime', name);
        EXECUTE format('GRANT SELECT, INSERT ON %I TO orbit_runtime', name);
        IF name NOT LIKE 'log\_%' THEN
            EXECUTE format('GRANT UPDATE, DELETE ON %I TO orbit_runtime', name);
        END IF;
    END LOOP;
    GRANT DELETE ON log_pending, log_bodies TO orbit_runtime;
END $$;
