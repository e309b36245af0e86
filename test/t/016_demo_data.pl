# The demo's data: the 500 held-out packages, and the training documents.
# The model knows its tasks only in the words that it was trained with, so the
# documents' prompts must be those that the SQL functions make.

use strict;
use warnings;
use lib '.', 't';
use Digest::MD5 qw(md5_hex);
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

my $train_dir = '../demo/train';
my $scratch = "$PostgreSQL::Test::Utils::tmp_check/documents";
my @frequent = qw(devel doc golang haskell javascript libdevel libs net perl python rust utils);
my $task = 'Which section of the Debian archive is this package in?';
mkdir $scratch;

sub unescape
{
	my ($text) = @_;
	my %plain = (t => "\t", n => "\n", '\\' => '\\');
	$text =~ s/\\(.)/$plain{$1} \/\/ die "unknown escape \\$1"/ge;
	return $text;
}

# The rule of the split, written once more.
sub is_heldout
{
	my ($source) = @_;
	return hex(substr md5_hex($source), 0, 8) % 100 < 5;
}

# A SQL literal.
sub quote
{
	my ($text) = @_;
	$text =~ s/'/''/g;
	return "'$text'";
}

# ----------------------------------------------------------------
# The demo's packages
# ----------------------------------------------------------------

my ($header, @rows) = split /\n/, slurp_file('../demo/packages.tsv');
is($header, "name\tsource\tsection\tsummary\tdescription", 'the packages have the columns of the demo');
is(scalar @rows, 500, 'there are 500 packages');
@rows = map { [ map { unescape($_) } split /\t/, $_, -1 ] } @rows;
is(scalar(grep { @$_ != 5 } @rows), 0, 'each has all columns');
my %names = map { $_->[0] => 1 } @rows;
is(scalar keys %names, scalar @rows, 'names are unique');
is_deeply([ map { $_->[0] } grep { !is_heldout($_->[1]) } @rows ], [], 'all are held out by their source');
my %sections = map { $_->[2] => 1 } @rows;
is_deeply([ sort keys %sections ], \@frequent, 'they are of the 12 frequent sections');
is(scalar(grep { join('', @$_) =~ /[\x00-\x09\x0B-\x1F\x7F]|<\|/ } @rows), 0,
	'they have no control characters and no control tokens');
is(scalar(grep { my $row = join '', @$_; !utf8::decode($row) } @rows), 0, 'they are valid UTF-8');
is(scalar(grep { $_->[3] eq '' || $_->[4] eq '' || length $_->[4] > 500 } @rows), 0,
	'summaries and descriptions are there, and short');

# ----------------------------------------------------------------
# Documents of a small table
# ----------------------------------------------------------------

# The frequent sections with 40 packages each, and two with 30; the sources
# decide the split.
sub write_table
{
	my ($path) = @_;
	my @lines = (join "\t", qw(name source section tags summary description split));
	my %kind = (games => 'game::puzzle,interface::graphical,role::program,use::gameplaying',
		libs => 'role::shared-lib', libdevel => 'devel::library,role::devel-lib',
		utils => 'interface::commandline,role::program', doc => 'role::documentation',
		net => 'interface::graphical,role::program');

	for my $section (@frequent, 'games', 'graphics')
	{
		for my $i (1 .. ($section =~ /^g[ar]/ ? 30 : 40))
		{
			my $source = "$section-source-$i";
			my $percent = hex(substr md5_hex($source), 0, 8) % 100;
			my $name = $section =~ /^lib/ ? "lib$section$i" : "$section$i";
			push @lines, join "\t", $name, $source, $section, $kind{$section} // '',
				"thing number $i of $section",
				"This is \\\\$name.\\n\\nIt does $i things. It has:\\n * one \x{c3}\x{a9}\\n * two" .
				' and it has more of them' x 20,
				$percent < 5 ? 'heldout' : $percent < 7 ? 'valid' : 'train';
		}
	}
	open my $out, '>:raw', $path or die "could not create $path: $!";
	print $out "$_\n" for @lines;
	close $out;
}

my $n_runs = 0;
sub make_documents
{
	my ($seed, $course) = @_;
	my $dir = "$scratch/run" . ++$n_runs;
	mkdir $dir;
	my ($ok, $err) = (1, '');
	IPC::Run::run([ $^X, "$train_dir/documents.pl", '--seed', $seed, '--course', $course,
			"$scratch/packages.tsv", $dir ], '>', \my $out, '2>', \$err) or $ok = 0;
	ok($ok && $err eq '', "documents.pl --seed $seed --course $course") or diag($err);
	return map { slurp_file("$dir/documents-$_.txt") } qw(train valid);
}

write_table("$scratch/packages.tsv");
my ($train, $valid) = make_documents(1, 1);
my ($again, $valid_again) = make_documents(1, 1);
my ($other) = make_documents(2, 1);
my ($second, $second_valid) = make_documents(1, 2);
ok($train eq $again && $valid eq $valid_again, 'the same seed gives the same documents');
ok($train ne $other, 'another seed gives others');
ok($train ne $second, 'so does the second course');

# A document is { group, fields => [ [weight, text], ... ] }.
sub parse
{
	my ($line) = @_;
	my ($group, @rest) = split /\t/, $line, -1;
	my @fields;
	return undef if $group !~ /^(?:-1|\d+)$/ || !@rest || @rest % 2;
	while (my ($weight, $text) = splice @rest, 0, 2)
	{
		return undef if $weight !~ /^\d+(?:\.\d+)?$/ || $weight > 15 || $text eq '';
		push @fields, [ $weight, unescape($text) ];
	}
	return { group => $group, fields => \@fields };
}

my @documents = map { parse($_) } split /\n/, $train . $valid . $second . $second_valid;
is(scalar(grep { !defined } @documents), 0, 'every line is a document');
@documents = grep { defined } @documents;
my @heldout = slurp_file("$scratch/packages.tsv") =~ /^(\w+)\t.*\theldout$/mg;
my $all_text = join "\n", map { map { $_->[1] } @{ $_->{fields} } } @documents;
ok(@heldout > 0, 'the table has held-out packages');
is_deeply([ grep { $all_text =~ /\b\Q$_\E\b/ } @heldout ], [], 'none of them is in a document');

# ----------------------------------------------------------------
# Their prompts are those of src/postgres/prompt.c
# ----------------------------------------------------------------

# A string constant of a C file.
sub c_string
{
	my ($text, $name) = @_;
	$text =~ /static const char \Q$name\E\[\] =\s*((?:"(?:[^"\\]|\\.)*"\s*)+);/
	  or BAIL_OUT("no $name in prompt.c");
	my $string = join '', $1 =~ /"((?:[^"\\]|\\.)*)"/g;
	$string =~ s/\\n/\n/g;
	return $string;
}

my $prompt_c = slurp_file('../src/postgres/prompt.c');
my %word = map { $_ => c_string($prompt_c, $_ . '_v1') }
  qw(classify_intro classify_task classify_labels classify_label filter_intro filter_condition);

# A chat document as { kind, task, labels, condition, turns => [ [text, answer] ] },
# or undef where it is not of the chat form, or its system message not one of
# the functions'.  What is a border of fields is part of the form.
sub parse_chat
{
	my ($document) = @_;
	my @fields = map { [@$_] } @{ $document->{fields} };
	my %chat = (kind => 'generate', turns => []);
	my $first = '<|begin_of_text|>';

	return undef if $document->{group} != -1 || @fields % 4;
	if ($fields[0][1] =~ /^\Q$first\E<\|start_header_id\|>system/)
	{
		$fields[0][1] =~ s/^\Q$first\E<\|start_header_id\|>system<\|end_header_id\|>\n\n(.*?)<\|eot_id\|>/$first/s
		  or return undef;
		my $system = $chat{system} = $1;
		if ($system =~ /^\Q$word{classify_intro}\E(?:\Q$word{classify_task}\E(.+?))?\Q$word{classify_labels}\E(.*)$/s)
		{
			@chat{qw(kind task)} = ('classify', $1);
			$chat{labels} = [ split /\Q$word{classify_label}\E/, substr $2, length $word{classify_label} ];
		}
		elsif ($system =~ /^\Q$word{filter_intro}$word{filter_condition}\E(.+)$/s)
		{
			@chat{qw(kind condition)} = ('filter', $1);
		}
		else
		{
			return undef;
		}
	}
	while (my ($head, $text, $middle, $answer) = splice @fields, 0, 4)
	{
		return undef if $head->[0] != 0 || $head->[1] ne "$first<|start_header_id|>user<|end_header_id|>" ||
			$middle->[0] != 0 || $middle->[1] ne "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n" ||
			$text->[1] !~ /^\n\n\S/ || $text->[1] =~ /\s$/ || $text->[1] =~ /<\|/ ||
			$answer->[0] <= 0 || $answer->[1] !~ /^\S((?!<\|).)*<\|eot_id\|>$/s;
		push @{ $chat{turns} }, [ substr($text->[1], 2), $answer->[1] =~ s/<\|eot_id\|>$//r ];
		$first = '';
	}
	return \%chat;
}

my @plain = grep { $_->{group} >= 0 } @documents;
is(scalar(grep { @{ $_->{fields} } != 1 ||
		$_->{fields}[0][1] !~ /^<\|begin_of_text\|>((?!<\|).)+<\|end_of_text\|>$/s } @plain), 0,
	'a document with a group is a text');
my @chats = map { { %{ parse_chat($_) // {} }, document => $_ } } grep { $_->{group} < 0 } @documents;
is(scalar(grep { !$_->{kind} } @chats), 0, 'the others are chats in the words of the functions');
@chats = grep { $_->{kind} } @chats;
my %by_kind;
push @{ $by_kind{ $_->{kind} } }, $_ for @chats;
is_deeply([ sort keys %by_kind ], [qw(classify filter generate)], 'there are chats of three functions');

my @classify = @{ $by_kind{classify} };
is(scalar(grep { "@{ $_->{labels} }" ne join ' ', sort @{ $_->{labels} } } @classify), 0,
	'labels are in the order that llama_classify gives them');
is(scalar(grep { my $chat = $_; grep { my $turn = $_; !grep { $_ eq $turn->[1] } @{ $chat->{labels} } }
		@{ $chat->{turns} } } @classify), 0, 'every answer is a label');
cmp_ok(scalar(grep { "@{ $_->{labels} }" eq "@frequent" && ($_->{task} // '') eq $task } @classify), '>',
	@classify / 4, 'many have the labels and the task of the demo');
cmp_ok(scalar(grep { !defined $_->{task} } @classify), '>', 0, 'some have no task');
my @answers = map { map { $_->[1] } @{ $_->{turns} } } @{ $by_kind{filter} };
is(scalar(grep { !/^(?:Yes|No)$/ } @answers), 0, 'conditions are answered by Yes or No');
my $yes = grep { $_ eq 'Yes' } @answers;
ok(abs($yes / @answers - 0.5) < 0.1, 'by Yes about half of the time') or diag("$yes of " . @answers);
my %conditions = map { $_->{condition} => 1 } @{ $by_kind{filter} };
ok($conditions{"The package is a $_."}, "the condition of the demo: a $_")
  for ('game', 'library', 'command-line tool');

# The tour asks in the words of the documents.
my $tour = slurp_file('../demo/tour.sql');
ok(index($tour, $task) >= 0, 'the tour has the task of the documents');
my @toured = $tour =~ /ARRAY\[(.*?)\]/s ? $1 =~ /'([^']+)'/g : ();
is("@toured", "@frequent", 'and the labels');

# ----------------------------------------------------------------
# Token for token
#
# Two steps, since no function shows its prompt.  A document up to its last
# answer has as many tokens as llama_chat computes for its messages; and after
# that, llama_classify and llama_filter find as much of their own prompt
# computed as if it had been asked before, so theirs begins with the same tokens.
# ----------------------------------------------------------------

make_model('tiny.gguf', qw(--preset tiny --type q8_0 --chat llama30 --seed 7 --ctx 4096));
my $node = start_node('main', "llama3.models = 'tiny.gguf'");
wait_until('the model is loaded',
	sub { $node->safe_psql('postgres', 'SELECT state FROM llama_models') eq 'ready' });

# Tokens that a statement computes, and those that it finds computed.
sub tokens_of
{
	my ($sql) = @_;
	my $counters = 'SELECT prefill_tokens, cached_tokens FROM llama_stat';
	my @before = split /\|/, $node->safe_psql('postgres', $counters);
	$node->safe_psql('postgres', "SELECT $sql");
	my @after = split /\|/, $node->safe_psql('postgres', $counters);
	return ($after[0] - $before[0], $after[1] - $before[1]);
}

# Bytes as characters, which is what JSON::PP takes.
sub characters
{
	my ($text) = @_;
	utf8::decode($text);
	return $text;
}

sub json
{
	my ($data) = @_;
	return quote(JSON::PP->new->ascii->encode($data)) . '::jsonb';
}

# A chat as the messages of llama_chat, without the last answer.
sub chat_call
{
	my ($chat) = @_;
	my @messages = map { ({ role => 'user', content => characters($_->[0]) },
		{ role => 'assistant', content => $_->[1] }) } @{ $chat->{turns} };
	pop @messages;
	unshift @messages, { role => 'system', content => $chat->{system} } if defined $chat->{system};
	return 'llama_chat(' . json(\@messages) . ', max_tokens => 1)';
}

# A chat as the call that it teaches the answer of; labels in another order.
sub function_call
{
	my ($chat) = @_;
	my @turns = @{ $chat->{turns} };
	my $input = quote((pop @turns)->[0]);

	return "llama_generate($input, max_tokens => 1)" if $chat->{kind} eq 'generate';
	return "llama_filter($input, " . quote($chat->{condition}) . ')' if $chat->{kind} eq 'filter';
	return "llama_classify($input, ARRAY[" . join(', ', map { quote($_) } reverse @{ $chat->{labels} }) .
		'], ' . (defined $chat->{task} ? quote($chat->{task}) : 'NULL') . ', ' .
		json([ map { { input => characters($_->[0]), label => $_->[1] } } @turns ]) . ')';
}

sub token_for_token
{
	my ($what, $chat) = @_;
	my $prompt = join '', map { $_->[1] } @{ $chat->{document}{fields} };
	my ($last) = $prompt =~ /^(.*<\|start_header_id\|>assistant<\|end_header_id\|>\n\n)/s;
	my $n = $node->safe_psql('postgres', 'SELECT cardinality(llama_tokenize(' . quote($last) . ', true))');
	my ($computed, $cached) = tokens_of(chat_call($chat));
	is($computed + $cached, $n, "$what: as many tokens as the messages");
	my (undef, $found) = tokens_of(function_call($chat));
	my (undef, $found_again) = tokens_of(function_call($chat));
	ok($found == $found_again && $found > $n - 32, "$what: the function begins with all of them")
	  or diag("of $n tokens, $found are found after the chat, $found_again when asked again");
}

my ($with_task) = grep { @{ $_->{turns} } == 1 && defined $_->{task} } @classify;
my ($without_task) = grep { @{ $_->{turns} } == 1 && !defined $_->{task} } @classify;
my ($with_examples) = grep { @{ $_->{turns} } > 2 } @classify;
my ($filter) = grep { @{ $_->{turns} } == 1 } @{ $by_kind{filter} };
my ($long) = grep { $_->{turns}[0][0] =~ /\n/ } @{ $by_kind{generate} };
my ($short) = grep { $_->{turns}[0][0] =~ /^What is [^ ]*\?$/ } @{ $by_kind{generate} };

token_for_token('a label with a task', $with_task);
token_for_token('a label without a task', $without_task);
token_for_token('a label with examples', $with_examples);
token_for_token('a condition', $filter);
token_for_token('a question with a text', $long);
token_for_token('a short question', $short);

done_testing();
