-- Every object of the extension is described, and says truly how it may be called.
SELECT pg_describe_object(d.classid, d.objid, 0) AS without_comment
FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'llama3' AND d.deptype = 'e' AND d.classid IN ('pg_proc'::regclass, 'pg_class'::regclass)
	AND obj_description(d.objid, d.classid::regclass::name) IS NULL
ORDER BY 1;

-- functions and views, and what jobs and syncs keep
SELECT pg_describe_object(d.classid, d.objid, 0) AS other_object
FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE e.extname = 'llama3' AND d.deptype = 'e' AND d.classid <> 'pg_proc'::regclass
	AND NOT EXISTS (SELECT FROM pg_class c WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind = 'v')
ORDER BY 1;

-- one line for each function
\pset format unaligned
\pset footer off
SELECT p.proname, p.provolatile AS volatile, p.proparallel AS parallel, p.proisstrict AS strict, p.procost AS cost,
	p.prorows AS rows, p.prosecdef AS definer
FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
WHERE e.extname = 'llama3' AND d.deptype = 'e' AND NOT 'internal'::regtype = ANY (p.proargtypes)
	AND p.proname LIKE 'llama%'
ORDER BY p.proname COLLATE "C";

-- what a query cannot call itself, which belongs to aggregates and other calls
SELECT p.oid::regprocedure AS function, p.provolatile AS volatile, p.proparallel AS parallel, p.proisstrict AS strict, p.procost AS cost
FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
WHERE e.extname = 'llama3' AND d.deptype = 'e' AND 'internal'::regtype = ANY (p.proargtypes)
ORDER BY p.oid::regprocedure::text COLLATE "C";
