# llama_model_plan reads headers only: shapes that no test machine could load.

use strict;
use warnings;
use lib '.', 't';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

# Parameters counted by hand from the published shapes: embedding and output
# 2 V d (V d when tied), per layer 2 d (norms) + 2 d d (q, o) + 2 d kv + 3 d f,
# plus d; divisors of the rotary frequencies are not counted.
my %shape = (
	'1b' => { layers => 16, d => 2048, kv => 512, f => 8192, tied => 1 },
	'3b' => { layers => 28, d => 3072, kv => 1024, f => 8192, tied => 1, q => 3072 },
	'8b' => { layers => 32, d => 4096, kv => 1024, f => 14336, tied => 0 },
	'70b' => { layers => 80, d => 8192, kv => 1024, f => 28672, tied => 0 },
	'405b' => { layers => 126, d => 16384, kv => 1024, f => 53248, tied => 0 },
);

my $node = start_node('main');
my %bits = (q8_0 => 8.5, q4_k => 4.5, bf16 => 16);
for my $name (sort keys %shape)
{
	my $s = $shape{$name};
	my $matrix = ($s->{tied} ? 1 : 2) * 128256 * $s->{d}
	  + $s->{layers} * (2 * $s->{d}**2 + 2 * $s->{d} * $s->{kv} + 3 * $s->{d} * $s->{f});
	my $params = $matrix + $s->{layers} * 2 * $s->{d} + $s->{d};
	for my $type (sort keys %bits)
	{
		make_model("$name-$type.gguf", '--preset', $name, '--type', $type, '--header-only');
		my ($p, $weights, $kv, $fits, $note) = split /\|/, $node->safe_psql('postgres',
			"SELECT parameters, weights_bytes, kv_bytes_per_token, fits, note FROM llama_model_plan('$name-$type.gguf')");
		is($p, $params, "$name $type: parameters");
		my $expected = $matrix * $bits{$type} / 8;
		cmp_ok(abs($weights / $expected - 1), '<', 0.005, "$name $type: bytes of weights");
		is($kv, 2 * 2 * $s->{kv} * $s->{layers}, "$name $type: bytes of KV per token");
		is($fits, 'f', "$name $type: does not fit") if $name eq '405b';
		like($note, $name eq '405b' ? qr/apart from that: not enough .*It needs \d+ MB/ :
			qr/apart from that: (fits with room for \d+ tokens|not enough .*It needs \d+ MB)/,
			"$name $type: says what that means");
	}
}

# The README's table of published models, from files of headers of their shapes.
# The size of the whole file is what its header describes; published ones
# differ by their metadata, a few MB.
my $table = '';
for my $model (['Llama 3.2 1B', '1b', 'Llama-3.2-1B-Instruct'], ['Llama 3.2 3B', '3b', 'Llama-3.2-3B-Instruct'],
	['Llama 3.1 8B', '8b', 'Meta-Llama-3.1-8B-Instruct'], ['Llama 3.3 70B', '70b', 'Llama-3.3-70B-Instruct'])
{
	my ($title, $preset, $name) = @$model;
	make_model("$name-$_.gguf", '--preset', $preset, '--type', lc $_, '--header-only') for qw(Q4_K_M Q8_0);
	(my $directory = $name) =~ s/^Meta-//;
	system("$ENV{LLAMA3_BIN}/mkmodel", '--preset', $preset, qw(--type bf16 --header-only --hf),
		model_directory() . "/$directory") == 0 or BAIL_OUT('mkmodel failed');
	for my $file ("$name-Q4_K_M.gguf", "$name-Q8_0.gguf", $directory)
	{
		$table .= $node->safe_psql('postgres', qq{
			SELECT format('| %s | `%s` | %s | %s | %s | %s |', '$title', '$file',
				round(substring(note FROM 'describes (\\d+) bytes')::numeric / 1e9, 2),
				round(weights_bytes / 1e9, 2), kv_bytes_per_token,
				round((weights_bytes + tokenizer_bytes + workspace_bytes + (SELECT boot_val::bigint * 1024 * 1024
					FROM pg_settings WHERE name = 'llama3.kv_cache_size')) / 1e9, 1))
			FROM llama_model_plan('$file')}) . "\n";
	}
	is($node->safe_psql('postgres', "SELECT weights_bytes FROM llama_model_plan('$directory', quantize => 'q8_0')"),
		$node->safe_psql('postgres', "SELECT weights_bytes FROM llama_model_plan('$name-Q8_0.gguf')"),
		"$title: quantised at load it is as large as in Q8_0");
}
is(join('', slurp_file('../README.md') =~ /^(\| Llama 3\.\d \d+B \| .*\n)/mg), $table,
	'the README has the sizes of published models');

# Loading a file of headers is refused, as a download that is not finished is.
my ($ret, $out, $err) = $node->psql('postgres', "SELECT llama_load_model('1b-q8_0.gguf')",
	extra_params => [ '-v', 'VERBOSITY=verbose' ]);
is(sqlstate_of($err), 'XX001', 'a file without its data is not loaded');
like($err, qr/truncated|incomplete/, 'and the message says so');

# Rarer types are widened, and the plan says so.
make_model('q5_k.gguf', qw(--preset tiny --type q5_k --seed 2));
like($node->safe_psql('postgres', "SELECT file_types || ' -> ' || packed_types FROM llama_model_plan('q5_k.gguf')"),
	qr/Q5_K.*->.*Q8_K/, 'the plan shows widened types');

# The plan counts keys and values as the setting has them, and the engine runs with it.
make_model('chat.gguf', qw(--preset tiny --type q8_0 --chat llama31 --seed 3));
my $ask = q{SELECT llama_load_model('chat.gguf') \gset
	SELECT llama_classify_prob('The parcel never came.', ARRAY['delivery', 'praise'], model => 'chat')};
my $f16 = $node->safe_psql('postgres', $ask);
$node->append_conf('postgresql.conf', "llama3.kv_cache_type = 'q8_0'");
$node->restart;
is($node->safe_psql('postgres', "SELECT kv_bytes_per_token FROM llama_model_plan('8b-q8_0.gguf')"),
	2 * 2 * 1024 * 32 * 17 / 32, 'in Q8_0 a token takes 8.5 of 16 bits');
my $q8_0 = $node->safe_psql('postgres', $ask);
like($q8_0, qr/^\{[-e.\d]+,[-e.\d]+\}$/, 'the engine answers with such a cache');
isnt($q8_0, $f16, 'and from other numbers');
$node->restart;
is($node->safe_psql('postgres', $ask), $q8_0, 'and so again after a restart');
$node->stop;

done_testing();
