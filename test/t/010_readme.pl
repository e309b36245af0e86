# The README does what it says.  Its SQL is run from top to bottom as a reader
# would, from a server without llama3 on; what it shows as output and as
# messages is compared with what comes out; its tables are compared with the
# server.  The guides in doc/ are run likewise, each on a server of its own that
# has llama3 and the model that the README calls Llama-3.2-1B-Instruct-Q8_0.
#
# In README.md and the guides
#	```sql			is run, a psql session per block.  Comments such as "-- ERROR:  ..."
#				announce the messages that come, all of them, in this order
#	```sql needs EXTENSION	is run where that extension is installed
#	```text			after it is the output.  Numbers may differ, since the README's
#				are from larger models; words may not
#	```text varies	is output of which only the columns are the same everywhere
#	```sh			with "systemctl restart" restarts the server; others are not run
# /srv/models and /srv/cache are this test's directories.

use strict;
use warnings;
use lib '.', 't';
use Encode qw(decode_utf8);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

my $readme = slurp_file('../README.md');
my $models = model_directory();
my $cache = "$PostgreSQL::Test::Utils::tmp_check/cache";
mkdir $cache;

# Small models under the names of published ones, with the vocabulary's size
# and the context of those.
my @shape = qw(--preset tiny --vocab 128256 --specials 256 --ctx 131072 --chat llama31);
make_model('Llama-3.2-1B-Instruct-Q8_0.gguf', @shape, qw(--type q8_0 --seed 7 --rope-freqs --tied));
make_model('Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf', @shape, qw(--type q4_k_m --seed 8
	--rope-freqs --untied), '--name', 'Meta Llama 3.1 8B Instruct');
system("$ENV{LLAMA3_BIN}/mkmodel", @shape, qw(--type bf16 --seed 9 --tied --hf),
	"$models/Llama-3.2-1B-Instruct") == 0 or BAIL_OUT('mkmodel failed');

# ----------------------------------------------------------------
# Reading the README
# ----------------------------------------------------------------

# Blocks of code: { language, text, line, output, varies }
sub code_blocks
{
	my ($text) = @_;
	my @blocks;
	my $block;
	my $line = 0;
	my $prose = 0;			# between the last block and here

	for (split /\n/, $text)
	{
		$line++;
		if (!$block && /^```(\w*) ?(.*)$/)
		{
			$block = { language => $1, info => $2, text => '', line => $line, prose => $prose };
		}
		elsif ($block && $_ eq '```')
		{
			my $before = $blocks[-1];
			if ($block->{language} eq 'text' && !$block->{prose} && $before
				&& $before->{language} eq 'sql')
			{
				$before->{output} = $block->{text};
				$before->{varies} = $block->{info} eq 'varies';
			}
			push @blocks, $block;
			$block = undef;
			$prose = 0;
		}
		elsif ($block) { $block->{text} .= "$_\n"; }
		elsif (/\S/) { $prose = 1; }
	}
	die 'a block of code has no end' if $block;
	return @blocks;
}

sub messages
{
	my ($text) = @_;
	return join("\n", $text =~ /^((?:ERROR|WARNING|NOTICE|DETAIL|HINT):  .*)$/mg);
}

# Output without what depends on the model's size: numbers, and the widths of
# columns, which follow them.
sub without_numbers
{
	my ($text) = @_;
	$text =~ s/-?\d+(\.\d+)?(e[-+]?\d+)?/#/g;
	$text =~ s/[-+]{2,}/-/g;
	$text =~ s/[ \t]+/ /g;
	$text =~ s/^ | $//mg;
	$text =~ s/\n+$//;
	return $text;
}

# Names of the columns, of both of psql's formats.
sub columns
{
	my ($text) = @_;
	my %names;
	my @lines = split /\n/, $text;
	my $expanded = $text =~ /^-\[ RECORD/m;

	for my $i (0 .. $#lines)
	{
		$names{$1} = 1 if $expanded && $lines[$i] =~ /^(\w+) +\|/;
		next unless $i > 0 && $lines[$i] =~ /^-[-+]*$/;
		$names{$_} = 1 for $lines[ $i - 1 ] =~ /(\S+)/g;
	}
	delete $names{'|'};
	return join ' ', sort keys %names;
}

# ----------------------------------------------------------------
# Running it
# ----------------------------------------------------------------

sub installed
{
	my ($node, $extension) = @_;
	return $node->safe_psql('postgres',
		"SELECT count(*) FROM pg_available_extensions WHERE name = '$extension'");
}

sub run_sql
{
	my ($node, $block, $page) = @_;
	my $sql = $block->{text};
	my $where = "$page, line $block->{line}: " . (split /\n/, $sql)[0];
	my $other;
	my ($out, $err);

	if ($block->{info} =~ /^needs (\w+)$/ && !installed($node, $1))
	{
		SKIP: { skip "$where: $1 is not installed", 1; }
		return;
	}

	# A view of what is in flight wants something, as the row of a statement.
	if ($sql =~ /FROM llama_(?:stat_requests|progress_statements)/)
	{
		$other = spawn_sql($node, 'SELECT llama_generate(repeat(\'page \', 20000), max_tokens => 8000) FROM generate_series(1, 2)');
		ok(wait_until('a request runs', sub { running_requests($node) > 0 }), "$where: there is one");
	}
	$sql =~ s{/srv/models}{$models}g;
	$sql =~ s{/srv/cache}{$cache}g;
	open my $file, '>', "$models/block.sql" or die;
	print $file $sql;
	close $file;
	IPC::Run::run([ $node->installed_command('psql'), '-Xq', '-d', $node->connstr('postgres'),
			'-f', "$models/block.sql" ], '<', '/dev/null', '>', \$out, '2>', \$err);
	if ($other)
	{
		$node->safe_psql('postgres', 'SELECT pg_cancel_backend(pid) FROM llama_stat_requests');
		finish_sql($other);
	}
	for ($out, $err)
	{
		s{\Q$models\E}{/srv/models}g;
		s{^psql:\S+: }{}mg;
		s{ +$}{}mg;
	}
	(my $announced = $block->{text}) =~ s/^-- //mg;
	is(messages($err), messages($announced), "$where: messages");
	if (defined $block->{output} && $block->{varies})
	{
		is(columns($out), columns($block->{output}), "$where: columns");
	}
	elsif (defined $block->{output})
	{
		is(without_numbers($out), without_numbers($block->{output}), "$where: output");
	}
	# A reload takes a moment to arrive.
	sleep 1 if $sql =~ /pg_reload_conf/;
}

sub run_blocks
{
	my ($node, $text, $page) = @_;
	for my $block (code_blocks($text))
	{
		run_sql($node, $block, $page) if $block->{language} eq 'sql';
		$node->restart if $block->{language} eq 'sh' && $block->{text} =~ /systemctl restart/;
	}
}

my ($intro, $rest) = $readme =~ /\A(.*?)^(## .*)\z/ms;
ok($rest, 'the README has sections');
# Its lines are counted from the top.
$rest = ("\n" x ($intro =~ tr/\n//)) . $rest;

# The introduction shows a server that has llama3 already.
my $node = start_node('intro');
run_blocks($node, $intro, 'README.md');

# ----------------------------------------------------------------
# Its tables, against this server
# ----------------------------------------------------------------

sub section
{
	my ($name) = @_;
	my ($text) = $readme =~ /^## \Q$name\E\n(.*?)(?=^## |\z)/ms or die "no section $name";
	return $text;
}

my %administrator = (postmaster => 'restart', sighup => 'reload');
my $settings = '';
for my $row (split /\n/, $node->safe_psql('postgres', q{
	SELECT name, boot_val, min_val, max_val, array_to_string(enumvals, ', '), unit, context, vartype,
		name ~ 'directory|cache$' AND vartype = 'string'
	FROM pg_settings WHERE name LIKE 'llama3.%' ORDER BY name}))
{
	my ($name, $boot, $min, $max, $enum, $unit, $context, $type, $is_path) = split /\|/, $row;
	my $range = $min ne '' ? "$min to $max" : $enum ne '' ? $enum : $type eq 'bool' ? 'on, off' :
	  $is_path eq 't' ? 'absolute path' : '';
	$unit = 'tokens' if $name =~ /tokens|context/;
	my $line = "| `$name` | " . ($boot eq '' ? 'empty' : $boot) . " | $range | $unit | " .
	  ($context eq 'user' ? 'anybody | at once' : "administrator | $administrator{$context}") . ' |';
	$line =~ s/ +/ /g;
	$settings .= "$line\n";
}
my $table = join '', map { "$_\n" } section('Settings') =~ /^(\| `llama3.*)$/mg;
is($table, $settings, 'the table of settings is the server\'s');

# Those that a query can call; of several of one name the one with all arguments.
my @functions = split /\n/, $node->safe_psql('postgres', q{
	SELECT DISTINCT ON (proname) proname || ' ' || has_function_privilege('public', oid, 'execute') ||
		' ' || coalesce(array_to_string(proargnames[1:pronargs], ' '), '')
	FROM pg_proc WHERE proname LIKE 'llama%' AND NOT 'internal'::regtype = ANY (proargtypes)
	ORDER BY proname, pronargs DESC});
my %view = map { $_ => 1 } qw(llama_models llama_progress_statements llama_stat llama_stat_requests
	llama_stat_result_cache llama_stat_workers llama_sync_errors llama_sync_lag llama_syncs);
my ($revoked_row) = section('Privileges') =~ /^(\| `llama_load_model`.*)$/m;
for (@functions)
{
	my ($name, $public, @arguments) = split / /;
	is($revoked_row =~ /`\Q$name\E`/ ? 'false' : 'true', $public, "$name: who may call it");
	if ($view{$name})
	{
		my $columns = join ' ', sort split /\n/, $node->safe_psql('postgres',
			"SELECT attname FROM pg_attribute WHERE attrelid = '$name'::regclass AND attnum > 0");
		my ($block) = grep { $_->{text} =~ /^SELECT \* FROM $name \\gx/ }
		  map { code_blocks($_) } $readme, slurp_file('../doc/sync.md');
		is(columns($block->{output}), $columns, "$name: its columns are shown");
		next;
	}
	if ($name =~ /_pinned$/)
	{
		# Their arguments follow from those of the others; sql/pinned.sql says how.
		like(section('Functions'), qr/^### Pinned forms\n(?:(?!^###).)*`$name`/ms, "$name: is named");
		next;
	}
	my ($heading) = section('Functions') =~ /^### \Q$name\E\((.*)\) returns/m;
	ok(defined $heading, "$name: is described") or next;
	my %options = map { $_ => 1 } section('Functions') =~ /^\| `(\w+) \w+(?:\[\])?` \|/mg;
	my $given = join ' ', map { /^\*/ ? () : (split / /)[0] } split /, /, $heading;
	my $expected = join ' ', grep { $heading !~ /\*options\*/ || !$options{$_} } @arguments;
	is($given, $expected, "$name: its arguments");
}
my $function_table = $node->safe_psql('postgres', slurp_file('t/function_table.sql'));
is(join('', slurp_file('../doc/functions.md') =~ /^(\| `llama.*\n)/mg), "$function_table\n",
	'doc/functions.md: its table is what psql -Atf test/t/function_table.sql prints');
$node->stop;

# doc/prompts.md has every word of prompt.c, and no other.
my $prompt_file = slurp_file('../src/postgres/prompt.c');
my %said;
while ($prompt_file =~ /^(?:static )?const (?:char|LlamaText) (\w+_v\d+)(?:\[\w*\])? =\s*(.*?);\n/msg)
{
	my ($constant, $text) = ($1, $2);
	my @words = $text =~ /^\{/ ? $text =~ /"(.*?)", \d/g : join '', $text =~ /"(.*?)"/g;
	s/\\n/\n/g for @words;
	$said{$constant} = \@words;
}
my @in_file = $prompt_file =~ /\b(\w+_v\d+)(?:\[\w*\])? =/g;
is(join(' ', sort keys %said), join(' ', sort @in_file), 'the constants of prompt.c are all read');
my @shown = map { $_->{text} } code_blocks(slurp_file('../doc/prompts.md'));
for (@shown)
{
	chomp;
	s/\\n\n/\x01/g;
	tr/\n/ /;
	tr/\x01/\n/;
}
my %constants;				# by their words
for my $constant (sort keys %said)
{
	push @{ $constants{$_} }, $constant for @{ $said{$constant} };
}
# The longest first: a heading may be the beginning of another.
for my $words (sort { length $b <=> length $a || $a cmp $b } keys %constants)
{
	my $pattern = join '\{\w+\}', map { quotemeta } split /%d/, $words, -1;
	my $found = 0;

	for (@shown)
	{
		# A word of a list stands alone.
		$found += $words =~ /^[\w\/ ]+$/ ? s/^$pattern$/\x02/ : s/$pattern/\x02/g;
	}
	cmp_ok($found, '>', 0, "doc/prompts.md shows @{ $constants{$words} }");
}
is(join("\n", grep { !/^(?:\x02|\{\w+\})+$/ } @shown), '', 'doc/prompts.md shows nothing else');

# Messages of the troubleshooting table are in the libraries.
my ($pkglibdir) = run_command([ 'pg_config', '--pkglibdir' ]);
my $libraries = '';
for my $library (qw(llama3 llama3_engine))
{
	open my $file, '<:raw', "$pkglibdir/$library.so" or die "$library: $!";
	local $/;
	$libraries .= <$file>;
}
for my $message (section('Troubleshooting') =~ /^\| `(.*?)` \|/mg)
{
	my $pattern = join '%[-.*a-z0-9]{1,6}', map { quotemeta } split /\.\.\./, $message;
	ok($libraries =~ /$pattern/, "\"$message\" is a message of llama3");
}

# Links within a page, and to files of the repository; the width of lines.
my %page = ('README.md' => $readme);
$page{"doc/$_"} = slurp_file("../doc/$_") for map { m{([^/]+)$} } glob('../doc/*.md');
my %anchor;
for my $name (keys %page)
{
	for my $heading ($page{$name} =~ /^#+ (.*)$/mg)
	{
		(my $anchor = lc $heading) =~ s/[^\w\- ]//g;
		$anchor =~ s/ /-/g;
		$anchor{"$name#$anchor"} = 1;
	}
}
for my $name (sort keys %page)
{
	for my $link ($page{$name} =~ /\]\(([^)]+)\)/g)
	{
		my ($file, $anchor) = $link =~ /^([^#]*)(#.*)?$/;
		my $target = $file eq '' ? $name : $name =~ m{^doc/} ? "doc/$file" : $file;
		1 while $target =~ s{[^/]+/\.\./}{};
		ok(-f "../$target" && (!defined $anchor || $anchor{"$target$anchor"}), "$name: the link to $link leads somewhere");
	}
	is(join("\n", grep { !/^\| `llama/ && length(decode_utf8($_)) > 120 } split /\n/, $page{$name}), '',
		"$name: no line is longer than 120, but those of the table of functions");
}

# ----------------------------------------------------------------
# And the rest, from a server that knows nothing of llama3
# ----------------------------------------------------------------

$node = PostgreSQL::Test::Cluster->new('reader');
$node->init;
# Where a page shows how many tokens fit, a small model is to have too few.
$node->append_conf('postgresql.conf', 'llama3.kv_cache_size = 16MB');
$node->start;
run_blocks($node, $rest, 'README.md');
$node->stop;

# ----------------------------------------------------------------
# The guides
# ----------------------------------------------------------------

for my $name (grep { m{^doc/} && grep { $_->{language} eq 'sql' } code_blocks($page{$_}) } sort keys %page)
{
	(my $server = $name) =~ s{.*/|\.md$}{}g;
	$node = start_node($server, "llama3.models = 'Llama-3.2-1B-Instruct-Q8_0.gguf'");
	if (installed($node, 'pg_cron'))
	{
		$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_cron,llama3'\ncron.database_name = postgres");
		$node->restart;
	}
	run_blocks($node, $page{$name}, $name);
	$node->stop;
}

done_testing();
