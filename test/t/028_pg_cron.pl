# Jobs of pg_cron that use our functions, in both of its ways to run them.

use strict;
use warnings;
use lib '.', 't';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

my $pg_config = $ENV{PG_CONFIG} // 'pg_config';
chomp(my $library_directory = `$pg_config --pkglibdir`);
plan skip_all => 'pg_cron is not installed' if !-e "$library_directory/pg_cron.so";

make_model('tiny.gguf');
for my $workers (qw(on off))
{
	my $node = start_node("cron_$workers", "llama3.models = 'tiny.gguf'",
		"shared_preload_libraries = 'pg_cron,llama3'", 'cron.database_name = postgres',
		"cron.use_background_workers = $workers",
		# Connections that it opens itself go to where the cluster listens.
		"cron.host = ''", 'max_worker_processes = 20');
	$node->safe_psql('postgres', q{
		CREATE EXTENSION pg_cron;
		CREATE TABLE tickets AS SELECT i AS id, 'ticket ' || i AS body, NULL::text AS label
			FROM generate_series(1, 20) i;
		CREATE TABLE letters AS SELECT id, 'letter ' || id AS body, NULL::float8 AS urgency FROM tickets;
		ALTER TABLE letters ADD PRIMARY KEY (id);
		SELECT cron.schedule('urgency', '@reboot',
			$$CALL llama_enrich('letters', 'urgency = llama_score(body, ''How urgent is it?'', 1, 5)', batch_rows => 6)$$);
		SELECT cron.schedule('label', '@reboot',
			$$UPDATE tickets SET label = llama_classify(body, ARRAY['bug', 'praise']) WHERE label IS NULL$$);
		SELECT cron.schedule('explain', '@reboot',
			$$SELECT llama_filter(body, 'Is it urgent?') FROM tickets$$)});
	$node->safe_psql('postgres', q{UPDATE cron.job SET nodename = ''}) if $workers eq 'off';
	my $expected = $node->safe_psql('postgres',
		q{SELECT string_agg(llama_classify(body, ARRAY['bug', 'praise']), ',' ORDER BY id) FROM tickets});
	$node->restart;
	ok(wait_until('the jobs have run', sub {
		$node->safe_psql('postgres', q{SELECT count(*) FROM cron.job_run_details
			WHERE status IN ('succeeded', 'failed')}) == 3;
	}), "background workers $workers: the jobs run") or diag($node->safe_psql('postgres',
		'SELECT * FROM cron.job_run_details'));
	is($node->safe_psql('postgres', q{SELECT DISTINCT status FROM cron.job_run_details}), 'succeeded',
		"background workers $workers: and succeed");
	is($node->safe_psql('postgres', q{SELECT string_agg(label, ',' ORDER BY id) FROM tickets}), $expected,
		"background workers $workers: with the answers that everybody gets");
	is($node->safe_psql('postgres', q{SELECT count(*), bool_and(urgency = llama_score(body, 'How urgent is it?', 1, 5)) FROM letters}),
		'20|t', "background workers $workers: a job commits its batches");
	$node->stop;
}

done_testing();
