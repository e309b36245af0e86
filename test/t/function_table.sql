-- The table of doc/functions.md, from the server's catalog.  Functions behind
-- views, and forms with fewer arguments of the same aggregate, are left out.
SELECT format('| `%s(%s)` | `%s` | %s |', proname,
	regexp_replace(regexp_replace(replace(replace(replace(
		CASE WHEN prokind = 'a' THEN pg_get_function_identity_arguments(oid)
			ELSE regexp_replace(pg_get_function_arguments(oid), ',? ?OUT .*', '') END,
		'double precision', 'float8'), 'integer', 'int'), 'timestamp with time zone', 'timestamptz'),
		'::[a-z0-9 ]+(\[\])?|\mIN (?=\w+ \w)', '', 'g'), ' DEFAULT ', ' = ', 'g'),
	CASE WHEN prokind = 'p' THEN 'CALL' ELSE
		replace(replace(replace(pg_get_function_result(oid), 'double precision', 'float8'), 'integer', 'int'), '"', '')
	END,
	replace(obj_description(oid, 'pg_proc'), '|', '\|'))
FROM (
	SELECT DISTINCT ON (proname) p.* FROM pg_proc p
	WHERE proname LIKE 'llama\_%' AND NOT 'internal'::regtype = ANY (proargtypes)
		AND NOT prorettype IN ('internal'::regtype, 'trigger'::regtype)
		AND to_regclass(quote_ident(proname)) IS NULL
		AND EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')
	ORDER BY proname, pronargs DESC) AS p
ORDER BY proname COLLATE "C";
