# One model from every kind of source: a GGUF file, its parts, Hugging Face
# directories whole and sharded, quantised at load; and models that cannot chat.

use strict;
use warnings;
use lib '.', 't';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

my @shape = qw(--preset tiny --layers 2 --embd 256 --heads 8 --kv-heads 2 --head-dim 32 --ff 512
	--chat llama31 --seed 12);
my $dir = model_directory();

sub mkmodel
{
	system("$ENV{LLAMA3_BIN}/mkmodel", @shape, @_) == 0 or BAIL_OUT("mkmodel @_ failed");
}

my $node = start_node('main');
sub load_model
{
	my ($path, $name, $quantize) = @_;
	return $node->safe_psql('postgres', "SELECT llama_load_model('$path', '$name', "
		. ($quantize ? "quantize => '$quantize')" : 'NULL)'));
}

# --- the same function in five packages: the same checksum and answers
mkmodel('--type', 'bf16', '--out', "$dir/whole.gguf");
mkmodel('--type', 'bf16', '--split', 3, '--out', "$dir/parts.gguf");
mkmodel('--type', 'bf16', '--hf', "$dir/hf");
mkmodel('--type', 'bf16', '--split', 2, '--hf', "$dir/hf-shards");
mkmodel('--type', 'bf16', '--gguf-version', 2, '--out', "$dir/v2.gguf");
my ($first_part) = map { s{.*/}{}r } sort glob("$dir/parts*-of-*.gguf");
load_model('whole.gguf', 'whole');
load_model($first_part, 'parts');
load_model('hf', 'hf');
load_model('hf-shards', 'hf_shards');
load_model('v2.gguf', 'v2');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT checksum) FROM llama_models'), '5|1',
	'five packages of one model have one checksum');
is($node->safe_psql('postgres', q{SELECT count(DISTINCT llama_generate('hello', max_tokens => 30, model => name))
	FROM llama_models}), '1', 'and give one answer');
$node->safe_psql('postgres', 'SELECT llama_unload_model(name) FROM llama_models');

# --- quantised at load: the plan and the loaded model say the same
load_model('hf', 'q', 'q8_0');
is($node->safe_psql('postgres',
		"SELECT (SELECT weights_bytes FROM llama_model_plan('hf', quantize => 'q8_0')) = (SELECT weights_bytes FROM llama_models)"),
	't', 'quantised at load: as large as planned');
like($node->safe_psql('postgres', 'SELECT packed_types FROM llama_models'), qr/Q8_0/, 'in Q8_0');
isnt($node->safe_psql('postgres', "SELECT llama_generate('hello', max_tokens => 5)"), '', 'and it answers');
my ($ret, $out, $err) = $node->psql('postgres', "SELECT llama_load_model('hf', 'x', quantize => 'q2')",
	extra_params => [ '-v', 'VERBOSITY=verbose' ]);
is(sqlstate_of($err), '22023', 'an unknown quantisation is refused');
my $quantized = $node->safe_psql('postgres', 'SELECT checksum FROM llama_models');

# --- and from the server's list
$node->append_conf('postgresql.conf', "llama3.models = 'small=hf quantize=q8_0, hf, odd=hf  speed=fast, worse = hf quantize=q2'\n");
$node->restart;
is($node->safe_psql('postgres', "SELECT llama_count_tokens('x', model => 'small') > 0, checksum FROM llama_models WHERE name = 'small'"),
	"t|$quantized", 'quantised by llama3.models: the same weights');
isnt($node->safe_psql('postgres', "SELECT checksum FROM llama_models WHERE name = 'hf'"), $quantized,
	'and beside it those of the file');
# The last of the list is tried when the others are loaded.
wait_until('the last is tried', sub { $node->safe_psql('postgres', "SELECT state FROM llama_models WHERE name = 'worse'") eq 'failed' });
is($node->safe_psql('postgres', "SELECT state, error FROM llama_models WHERE name = 'odd'"),
	'failed|unknown option "speed"', 'an unknown option is reported');
is($node->safe_psql('postgres', "SELECT state, error FROM llama_models WHERE name = 'worse'"),
	'failed|unknown quantization "q2"', 'and an unknown quantisation');
$node->append_conf('postgresql.conf', "llama3.models = ''\n");
$node->restart;

# --- every file type of the contract, through SQL
for my $type (qw(f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs))
{
	mkmodel('--type', $type, '--out', "$dir/$type.gguf");
	load_model("$type.gguf", $type);
	is($node->safe_psql('postgres',
			"SELECT array_length(llama_embed('some text', model => '$type'), 1), llama_unload_model('$type')"),
		'256|', "$type answers");
}

# --- a missing part, a directory without a tokenizer
unlink "$dir/hf-shards/tokenizer.json";
($ret, $out, $err) = $node->psql('postgres', "SELECT llama_load_model('hf-shards')");
like($err, qr/tokenizer\.json/, 'a directory without a tokenizer is refused by name');
my @parts = sort glob("$dir/parts*-of-*.gguf");
unlink $parts[1];
($ret, $out, $err) = $node->psql('postgres', "SELECT llama_load_model('$first_part', 'parts')");
like($err, qr/00002-of-00003/, 'a missing part is named');

# --- no chat template, or one that is not known
for my $chat (qw(none unknown))
{
	mkmodel('--type', 'q8_0', '--chat', $chat, '--out', "$dir/chat-$chat.gguf");
	my $level = $chat eq 'none' ? 'NOTICE' : 'WARNING';
	($ret, $out, $err) = $node->psql('postgres', "SELECT llama_load_model('chat-$chat.gguf', '$chat')");
	like($err, qr/^psql:.*$level:  model "$chat" cannot chat\n.*DETAIL:  .*template.*HINT:  .*llama_complete/s,
		"$chat chat template: said at once");
	is($node->safe_psql('postgres', "SELECT chat_form FROM llama_models WHERE name = '$chat'"), $chat,
		"$chat chat template: shown in llama_models");
	isnt($node->safe_psql('postgres', "SELECT llama_complete('hello', max_tokens => 5, model => '$chat')"), '',
		"$chat chat template: llama_complete answers");
	for my $call ("llama_generate('x', model => '$chat')",
		"llama_classify('x', ARRAY['a', 'b'], model => '$chat')",
		"llama_filter('x', 'is it', model => '$chat')",
		"llama_chat('[{\"role\": \"user\", \"content\": \"x\"}]', model => '$chat')")
	{
		($ret, $out, $err) = $node->psql('postgres', "SELECT $call",
			extra_params => [ '-v', 'VERBOSITY=verbose' ]);
		is(sqlstate_of($err), '55000', "$chat chat template: 55000 from " . ($call =~ s/\(.*//r));
	}
	like($err, qr/llama_complete/, 'which says what can be called');
}

# --- names that come from the path
system("cp $dir/hf/* $dir") == 0 or BAIL_OUT('cp failed');
is($node->safe_psql('postgres', "SELECT llama_load_model('.')"), $dir =~ s{.*/}{}r,
	'the model directory itself: its own name');
is($node->safe_psql('postgres', "SELECT llama_load_model('hf/.')"), 'hf', 'a directory with a dot after it');
is($node->safe_psql('postgres', "SELECT name, general_name IS NOT NULL FROM llama_model_plan('./hf/')"), 'hf|t',
	'the plan has the name that the model would get');
mkmodel('--type', 'q8_0', '--out', "$dir/two words.gguf");
($ret, $out, $err) = $node->psql('postgres', "SELECT llama_load_model('two words.gguf')");
like($err, qr/invalid model name "two words".*HINT:  Give the model a name.*name =>/s,
	'a path that gives no name: the hint says to give one');
$node->stop;

# --- an instruction set that does not exist: said in the log with the known
# ones, and the server runs with what the CPU has
my $broken = PostgreSQL::Test::Cluster->new('broken');
$broken->init;
$broken->append_conf('postgresql.conf', "shared_preload_libraries = 'llama3'\n"
	. "llama3.cpu_features = 'no_such_set'\n");
$broken->start;
like(slurp_file($broken->logfile), qr/DETAIL:  Unknown CPU feature "no_such_set"\.\n.*HINT:.*avx512vnni/,
	'an unknown instruction set is reported with the known ones');
is($broken->safe_psql('postgres', 'SHOW llama3.cpu_features'), '', 'and not used');
$broken->stop;

# --- background processes that cannot start: callers are told, none hangs; the
# first call waits whether they come, the next is told at once
my $libraries = "$PostgreSQL::Test::Utils::tmp_check/libraries";
mkdir $libraries;
symlink run_command([ 'pg_config', '--pkglibdir' ]) . '/llama3.so', "$libraries/llama3.so";
my $no_engine = PostgreSQL::Test::Cluster->new('no_engine');
$no_engine->init;
$no_engine->append_conf('postgresql.conf', "shared_preload_libraries = '\$libdir/llama3'\n"
	. "llama3.model_directory = '$dir'\nllama3.models = 'whole.gguf'\ndynamic_library_path = '$libraries'\n");
$no_engine->start;
$no_engine->safe_psql('postgres', 'CREATE EXTENSION llama3');

$broken->append_conf('postgresql.conf', "shared_preload_libraries = '\$libdir/llama3'\n"
	. "llama3.cpu_features = ''\nllama3.model_directory = '$dir'\nllama3.models = 'whole.gguf'\n"
	. "dynamic_library_path = '/nonexistent'\n");
$broken->start;
$broken->safe_psql('postgres', 'CREATE EXTENSION llama3');
($ret, $out, $err) = $broken->psql('postgres', "SELECT llama_generate('hello')",
	extra_params => [ '-v', 'VERBOSITY=verbose' ]);
is(sqlstate_of($err), '57P03', 'without background processes a call ends with 57P03');
like($err, qr/HINT:.*log/, 'and a hint');
for my $server ($broken, $no_engine)
{
	my $what = $server == $broken ? 'no loader' : 'no engine';
	$server->psql('postgres', "SELECT llama_complete('hello')") if $server == $no_engine;
	# Less than the second after which one who waits looks around.
	($ret, $out, $err) = $server->psql('postgres', "SET statement_timeout = '900ms'; SELECT llama_complete('hello')",
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	is(sqlstate_of($err), '57P03', "$what: the next call is told at once");
	$server->stop;
}

done_testing();
