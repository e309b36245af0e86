# Loading, unloading and restarting: what a server without llama3, without a
# model, and with one says and does; damaged files leave it alive.

use strict;
use warnings;
use lib '.', 't';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

my $tiny = make_model('tiny.gguf');
my $dir = model_directory();

# --- not preloaded
my $plain = PostgreSQL::Test::Cluster->new('plain');
$plain->init;
$plain->start;
$plain->safe_psql('postgres', 'CREATE EXTENSION llama3');
my ($ret, $out, $err) = $plain->psql('postgres', "SELECT llama_generate('hello')",
	extra_params => [ '-v', 'VERBOSITY=verbose' ]);
is(sqlstate_of($err), '55000', 'without preloading a call raises 55000');
like($err, qr/HINT:.*shared_preload_libraries/, 'and the hint names the setting');
is($plain->safe_psql('postgres', 'SELECT llama_generate(NULL) IS NULL'), 't',
	'NULL gives NULL without an engine');
$plain->stop;

# --- preloaded, no model
my $node = start_node('main');
my $idle_segments = shared_memory_files();
($ret, $out, $err) = $node->psql('postgres', "SELECT llama_generate('hello')",
	extra_params => [ '-v', 'VERBOSITY=verbose' ]);
is(sqlstate_of($err), '55000', 'without a model a call raises 55000');
like($err, qr/HINT:/, 'and says what to do');

# --- load at run time
is($node->safe_psql('postgres', "SELECT llama_load_model('$tiny')"), 'tiny',
	'a model is named after its file');
my $first = $node->safe_psql('postgres', "SELECT llama_generate('hello', max_tokens => 20)");
isnt($first, '', 'a loaded model answers');
($ret, $out, $err) = $node->psql('postgres', "SELECT llama_generate('x', model => 'other')",
	extra_params => [ '-v', 'VERBOSITY=verbose' ]);
is(sqlstate_of($err), '42704', 'an unknown model raises 42704');
($ret, $out, $err) = $node->psql('postgres', "SELECT llama_load_model('$tiny')",
	extra_params => [ '-v', 'VERBOSITY=verbose' ]);
is(sqlstate_of($err), '42710', 'a name that is taken raises 42710');
is($node->safe_psql('postgres', "SELECT llama_load_model('tiny.gguf', 'second')"), 'second',
	'a path relative to the model directory and a name of choice');
is($node->safe_psql('postgres',
		"SELECT count(DISTINCT checksum) FROM llama_models WHERE state = 'ready'"), '1',
	'the same file has the same checksum');
is($node->safe_psql('postgres', "SELECT llama_generate('hello', max_tokens => 20, model => 'second')"),
	$first, 'and gives the same answer');
$node->safe_psql('postgres', "SELECT llama_unload_model('second'); SELECT llama_unload_model('tiny')");
nothing_left_behind($node, $idle_segments, 'after unloading');

# --- files that cannot be loaded: an error that says why, and the next load works
my %bad = (
	'truncated' => [ [qw(--corrupt truncated)], 'XX001', qr/truncated/ ],
	'bad-magic' => [ [qw(--corrupt bad-magic)], 'XX001', qr/bad-magic\.gguf/ ],
	'architecture' => [ [qw(--arch gpt2)], '0A000', qr/gpt2/ ],
	'missing-tensor' => [ [qw(--omit blk.1.attn_q.weight)], 'XX001', qr/blk\.1\.attn_q\.weight/ ],
	'wrong-shape' => [ [qw(--corrupt wrong-shape)], 'XX001', qr/expected/i ],
	'absurd-tensors' => [ [qw(--corrupt absurd-tensors)], 'XX001', qr/absurd-tensors\.gguf/ ],
	'absurd-layers' => [ [qw(--corrupt absurd-layers)], 'XX001', qr/block_count/ ],
	'bad-offset' => [ [qw(--corrupt bad-offset)], 'XX001', qr/bad-offset\.gguf/ ],
	'pre' => [ [qw(--pre no-such-split)], '0A000', qr/no-such-split.*llama-bpe/s ],
	'no-key' => [ [qw(--omit-key llama.embedding_length)], 'XX001', qr/llama\.embedding_length/ ],
);
for my $name (sort keys %bad)
{
	my ($options, $state, $pattern) = @{ $bad{$name} };
	make_model("$name.gguf", qw(--preset tiny --type q8_0 --seed 3), @$options);
	($ret, $out, $err) = $node->psql('postgres', "SELECT llama_load_model('$name.gguf')",
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	is(sqlstate_of($err), $state, "$name: SQLSTATE") or diag($err);
	like($err, $pattern, "$name: the message says what is wrong");
}
($ret, $out, $err) = $node->psql('postgres', "SELECT llama_load_model('nowhere.gguf')",
	extra_params => [ '-v', 'VERBOSITY=verbose' ]);
is(sqlstate_of($err), '58P01', 'a path that does not exist');
nothing_left_behind($node, $idle_segments, 'after failed loads');
is($node->safe_psql('postgres', "SELECT llama_load_model('tiny.gguf')"), 'tiny',
	'the next load works');

# --- who may load
$node->safe_psql('postgres', 'CREATE ROLE someone LOGIN');
($ret, $out, $err) = $node->psql('postgres', "SELECT llama_load_model('tiny.gguf', 'mine')",
	extra_params => [ '-U', 'someone', '-v', 'VERBOSITY=verbose' ]);
is(sqlstate_of($err), '42501', 'loading is not for everyone');
$node->safe_psql('postgres',
	'GRANT EXECUTE ON FUNCTION llama_load_model(text, text, text) TO someone');
($ret, $out, $err) = $node->psql('postgres', "SELECT llama_load_model('/etc/passwd', 'mine')",
	extra_params => [ '-U', 'someone', '-v', 'VERBOSITY=verbose' ]);
is(sqlstate_of($err), '42501', 'a granted role cannot leave the model directory');
($ret, $out, $err) = $node->psql('postgres', "SELECT llama_load_model('../models/../../x', 'mine')",
	extra_params => [ '-U', 'someone', '-v', 'VERBOSITY=verbose' ]);
like(sqlstate_of($err), qr/^(42501|58P01)$/, 'nor by way of ..');
is($node->psql('postgres', "SELECT llama_load_model('tiny.gguf', 'mine')",
		extra_params => [ '-U', 'someone' ]), 0, 'inside it can load');

# --- models of llama3.models survive a restart, others do not
$node->append_conf('postgresql.conf', "llama3.models = 'kept=tiny.gguf, broken=truncated.gguf'");
$node->restart;
is($node->safe_psql('postgres', "SELECT llama_generate('hello', max_tokens => 20)"), $first,
	'a listed model is back after a restart, with the same answer');
is($node->safe_psql('postgres',
		"SELECT string_agg(name || ' ' || state, ', ' ORDER BY name) FROM llama_models"),
	'broken failed, kept ready', 'a listed model that cannot be loaded is shown as failed');
($ret, $out, $err) = $node->psql('postgres', "SELECT llama_generate('x', model => 'broken')");
like($err, qr/truncated/, 'and a call of it says why');

# --- the weights cache
my $cache = $node->basedir . '/cache';
mkdir $cache;
$node->append_conf('postgresql.conf', "llama3.models = 'kept=tiny.gguf'\nllama3.weights_cache = '$cache'");
$node->restart;
is($node->safe_psql('postgres', "SELECT llama_generate('hello', max_tokens => 20)"), $first,
	'the same answer through the weights cache');
is(scalar(my @files = glob("$cache/*.l3arena")), 1, 'the packed weights are kept in a file');
my $mtime = (stat $files[0])[9];
$node->restart;
is($node->safe_psql('postgres', "SELECT llama_generate('hello', max_tokens => 20)"), $first,
	'and again from the file that was there');
is((stat $files[0])[9], $mtime, 'which was not written again');
is($node->safe_psql('postgres', 'SELECT backing FROM llama_models'), 'file', 'the view says so');

# A cache file that is damaged is not trusted.
$node->stop;
truncate($files[0], 1000) or die;
$node->start;
is($node->safe_psql('postgres', "SELECT llama_generate('hello', max_tokens => 20)"), $first,
	'a damaged cache file is made again');
$node->stop;

done_testing();
