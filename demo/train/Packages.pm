# Packages.pm
#	  What the scripts of demo/train and the demo's measurements share: the
#	  table of packages, a package's text, the frequent sections, and which
#	  conditions hold for a package.
#
# Everything here works on bytes: texts are valid UTF-8 already, are cut at
# spaces only, and never change their case or form.

package Packages;

use strict;
use warnings;
use Exporter 'import';
use Digest::MD5 qw(md5_hex);

our @EXPORT_OK = qw(@MEASURED @COLUMNS %CONDITIONS $TASK
	escape unescape read_packages write_atomically cut_text whole_sentences
	package_text frequent_sections split_of truth is_program_section);

our @COLUMNS = qw(name source section tags summary description split);

# The task of the demo's classification, and of most training documents.
our $TASK = 'Which section of the Debian archive is this package in?';

use constant {
	N_FREQUENT_SECTIONS => 12,
	DESCRIPTION_BYTES => 500,	# of a description in a package's text
	SPLIT_HELDOUT => 5,			# percent of the sources
	SPLIT_VALID => 2,
};

# ----------------------------------------------------------------
# Files
# ----------------------------------------------------------------

# PostgreSQL's COPY text format.
sub escape
{
	my ($text) = @_;

	$text =~ s/\\/\\\\/g;
	$text =~ s/\t/\\t/g;
	$text =~ s/\n/\\n/g;
	return $text;
}

sub unescape
{
	my ($text) = @_;
	my %plain = (t => "\t", n => "\n", '\\' => '\\');

	$text =~ s/\\(.)/$plain{$1} \/\/ die "unknown escape \\$1\n"/ge;
	return $text;
}

# The rows of a table that packages.pl wrote, as hashes by column.
sub read_packages
{
	my ($path) = @_;
	my @rows;

	open my $in, '<:raw', $path or die "could not open \"$path\": $!\n";
	my $header = <$in> // '';
	chomp $header;
	die "\"$path\" is not a table that packages.pl wrote\n" if $header ne join("\t", @COLUMNS);
	while (my $line = <$in>)
	{
		my %row;

		chomp $line;
		@row{@COLUMNS} = map { unescape($_) } split /\t/, $line, -1;
		die "\"$path\", line $.: not " . @COLUMNS . " columns\n" if !defined $row{split};
		push @rows, \%row;
	}
	close $in;
	return @rows;
}

# A file appears under its name only when it is whole.
sub write_atomically
{
	my ($path, $lines) = @_;

	open my $out, '>:raw', "$path.tmp" or die "could not create \"$path.tmp\": $!\n";
	print $out "$_\n" or die "could not write \"$path.tmp\": $!\n" for @$lines;
	close $out or die "could not write \"$path.tmp\": $!\n";
	rename "$path.tmp", $path or die "could not rename \"$path.tmp\": $!\n";
}

# ----------------------------------------------------------------
# Texts
# ----------------------------------------------------------------

# A sentence's end, but not that of "e.g." or of an initial.
my $SENTENCE_END = qr/(?<![.\s(]\w)[.!?]/;

# The beginning of a text, at most so many bytes, up to the end of a sentence
# or a line where there is one in its second half, else of a word.
sub cut_text
{
	my ($text, $bytes) = @_;

	return $text if length $text <= $bytes;
	my $start = substr $text, 0, $bytes + 1;
	for my $end (qr/^(.*$SENTENCE_END)\s/s, qr/^(.*)\n/s)
	{
		return $1 =~ s/\s+$//r if $start =~ $end && length $1 >= $bytes / 2;
	}
	return $1 if $start =~ /^(.*\S)\s/s;
	return substr($text, 0, $bytes) =~ s/[\x80-\xBF]*$//r =~ s/[\xC0-\xFF]$//r;
}

# The sentences at a text's beginning that fit into so many bytes: prose only,
# undef where it begins with a list or with a longer sentence.
sub whole_sentences
{
	my ($text, $bytes) = @_;

	$text = substr $text, 0, $bytes + 1;
	return undef if $text !~ /^((?:(?!\n ).)*$SENTENCE_END)(?:\s|$)/s;
	return length $1 <= $bytes ? $1 : undef;
}

# A package's text: what the demo classifies, embeds and filters.
sub package_text
{
	my ($row, $bytes) = @_;

	return "$row->{name}: $row->{summary}\n" .
		cut_text($row->{description}, $bytes // DESCRIPTION_BYTES);
}

# ----------------------------------------------------------------
# Split and sections
# ----------------------------------------------------------------

# train, valid or heldout, by the name of the package's source: libfoo1,
# libfoo-dev and libfoo-doc say nearly the same, so one of them in training
# would give the answers for the others.
sub split_of
{
	my ($source) = @_;
	my $percent = hex(substr md5_hex($source), 0, 8) % 100;

	return 'heldout' if $percent < SPLIT_HELDOUT;
	return 'valid' if $percent < SPLIT_HELDOUT + SPLIT_VALID;
	return 'train';
}

# The names of the most frequent sections of a table, in alphabetical order.
sub frequent_sections
{
	my ($rows) = @_;
	my %n;

	$n{ $_->{section} }++ for @$rows;
	my @sections = sort { $n{$b} <=> $n{$a} || $a cmp $b } keys %n;
	splice @sections, N_FREQUENT_SECTIONS if @sections > N_FREQUENT_SECTIONS;
	return sort @sections;
}

# ----------------------------------------------------------------
# Conditions
#
# What a person would say of a package, decided by its section and tags.
# Tags (debtags) are kept by hand and are not complete: that one is absent
# says No only where the package has others of the same facet; packages about
# which nothing can be said are left out (undef).
# ----------------------------------------------------------------

my %SECTION_LANGUAGE = (
	perl => 'Perl', python => 'Python', java => 'Java', haskell => 'Haskell', ruby => 'Ruby',
	rust => 'Rust', golang => 'Go', javascript => 'JavaScript', php => 'PHP', ocaml => 'OCaml',
	lisp => 'Lisp', 'gnu-r' => 'R');

# Tags of languages that are not the name in lower case.
my %LANGUAGE_TAG = (Lisp => 'lisp', R => 'r', OCaml => 'ocaml', JavaScript => 'ecmascript');

my %LIBRARY_SECTION = map { $_ => 1 } qw(libs libdevel introspection);

# Sections of programs, whose packages are no libraries unless they say so.
my %PROGRAM_SECTION = map { $_ => 1 } qw(admin comm editors games graphics hamradio mail net
	science shells sound text utils vcs video web x11 httpd database electronics math news);
my %OTHER_SECTION = map { $_ => 1 } qw(doc fonts localization tasks metapackages);

my %TOPIC = (
	'sound' => { section => qr/^sound$/, tag => qr/^(?:works-with::audio|sound::)/,
		word => qr/sound|audio|music|midi|mp3|song|speech|voice/i },
	'graphics' => { section => qr/^graphics$/,
		tag => qr/^(?:works-with::image|field::graphics|works-with::3dmodel)/,
		word => qr/graphic|image|picture|photo|draw|paint|pixel|icon|bitmap|render/i },
	'science' => { section => qr/^(?:science|math|electronics)$/, tag => qr/^field::(?!arts|finance|religion)/,
		word => qr/scien|research|physic|chemi|biolog|genom|astronom|math|statist|simulat|
			sequenc|numeric|molec/xi },
	'mail' => { section => qr/^mail$/, tag => qr/^(?:mail::|works-with::mail)/,
		word => qr/mail|smtp|imap|pop3|spam|message/i },
	'fonts' => { section => qr/^fonts$/, tag => qr/^(?:made-of::font|works-with::font|x11::font)/,
		word => qr/font|typeface|glyph|truetype|typograph/i },
	'video' => { section => qr/^video$/, tag => qr/^(?:works-with::video|video::)/,
		word => qr/video|movie|film|dvd|camera|stream|tv|subtitle|media/i },
	'databases' => { section => qr/^database$/, tag => qr/^works-with::db/,
		word => qr/database|sql|\bdb|dbm|storage|\bdata store/i },
	'text editing' => { section => qr/^editors$/, tag => qr/^(?:use::editing)/,
		word => qr/edit|emacs|vim?\b|text/i },
);

sub is_program_section
{
	my ($section) = @_;

	return exists $PROGRAM_SECTION{$section};
}

sub has_tag
{
	my ($row, $pattern) = @_;

	return scalar grep { $_ =~ $pattern } split /,/, $row->{tags};
}

# Roles that are not a program's.
my $NO_PROGRAM = qr/^role::(?:shared-lib|devel-lib|documentation|app-data|data|metapackage|
	debug-symbols|dummy)$/x;

sub is_game
{
	my ($row) = @_;
	my $tagged = has_tag($row, qr/^(?:game::|use::gameplaying)/);

	if ($row->{section} eq 'games' || $tagged)
	{
		return undef if has_tag($row, $NO_PROGRAM);
		return undef if $row->{name} =~
			/-(?:data|doc|dbg|common|server|music|sounds?|dev|maps?|levels?)(?:-|$)/;
		return undef if $row->{section} ne 'games' && !has_tag($row, qr/^role::program$/);
		return undef if !$tagged && has_tag($row, qr/^(?!uitoolkit::)/);
		return 1;
	}
	return 0 if $row->{section} =~ /^(?:libs|libdevel|devel|perl|rust|golang|doc|java|haskell|fonts)$/;
	return undef if $row->{section} =~ /^(?:metapackages|tasks|education|localization|misc)$/;
	return "$row->{summary} $row->{description}" =~ /\bgam(?:e|ing)|\bplay|puzzle|emulator/i ? undef : 0;
}

sub is_library
{
	my ($row) = @_;

	return undef if has_tag($row, qr/^role::program$/) &&
		has_tag($row, qr/^(?:role::(?:shared-lib|devel-lib)|devel::library)$/);
	return 0 if $row->{section} eq 'doc' ||
		$row->{name} =~ /-(?:doc|docs|dbg|dbgsym|examples?|data|common|bin|utils|tools)$/;
	return 1 if has_tag($row, qr/^role::(?:shared-lib|devel-lib)$/);
	return 1 if $LIBRARY_SECTION{ $row->{section} } && $row->{name} =~ /^(?:lib|gir1)/;
	return 1 if $SECTION_LANGUAGE{ $row->{section} } && $row->{name} =~ /^lib.*-(?:perl|dev|java|ocaml)$/;
	return 1 if $row->{section} =~ /^(?:golang)$/ && $row->{name} =~ /-dev$/;
	return undef if has_tag($row, qr/^devel::library$/) || $row->{name} =~ /^lib|-dev$/;
	return 0 if $PROGRAM_SECTION{ $row->{section} } &&
		"$row->{summary} $row->{description}" !~ /\blibrar|\bmodule|plug-?in/i;
	return 0 if $OTHER_SECTION{ $row->{section} } ||
		has_tag($row, qr/^role::(?:program|app-data|documentation)$/);
	return undef;
}

sub is_command_line_tool
{
	my ($row) = @_;
	my $text = "$row->{summary} $row->{description}";

	return 1 if has_tag($row, qr/^interface::commandline$/) && has_tag($row, qr/^role::program$/);
	return undef if has_tag($row, qr/^interface::(?:commandline|text-mode|shell|daemon)$/);
	return 1 if $row->{summary} =~
		/command[- ]line (?:tool|utilit|interface|client|program|application)/i &&
		!$LIBRARY_SECTION{ $row->{section} } && $row->{name} !~ /^lib|-dev$|-doc$/;
	return 0 if has_tag($row, qr/^interface::(?:x11|graphical|3d|web)$/) && $text !~ /command[- ]line/i;
	return 0 if has_tag($row, $NO_PROGRAM) && !has_tag($row, qr/^role::program$/);
	return 0 if $OTHER_SECTION{ $row->{section} };
	return 0 if ($LIBRARY_SECTION{ $row->{section} } || $SECTION_LANGUAGE{ $row->{section} }) &&
		$row->{name} =~ /^(?:lib|gir1|golang-|ruby-|node-|php-|r-)/ &&
		$text !~ /command[- ]line|\bprograms?\b|\btools?\b/i;
	return undef;
}

sub is_documentation
{
	my ($row) = @_;

	return 1 if $row->{section} eq 'doc' || has_tag($row, qr/^role::documentation$/) ||
		$row->{name} =~ /-(?:doc|docs)$/;
	return undef if has_tag($row, qr/^(?:made-of::(?:html|man|pdf|info)|devel::doc)$/) ||
		"$row->{name} $row->{summary}" =~ /\bdoc|manual|tutorial|guide|howto|example|reference|book/i;
	return 0;
}

sub is_graphical
{
	my ($row) = @_;
	my $text = "$row->{summary} $row->{description}";

	return undef if has_tag($row, $NO_PROGRAM) && has_tag($row, qr/^(?:interface::|role::program)/);
	return 1 if has_tag($row, qr/^(?:interface::graphical|x11::application)$/);
	return undef if $text =~ /graphical|GUI\b|\bGTK|\bQt|window|desktop|GNOME|KDE|X11|Xfce/i;
	return 0 if has_tag($row, qr/^interface::/) && !has_tag($row, qr/^interface::(?:x11|3d|web)$/);
	return 0 if has_tag($row, $NO_PROGRAM) || $OTHER_SECTION{ $row->{section} };
	return 0 if $LIBRARY_SECTION{ $row->{section} } ||
		$row->{section} =~ /^(?:perl|rust|golang|haskell|javascript|ruby|php)$/;
	return undef;
}

sub is_of_language
{
	my ($row, $language) = @_;
	my $of_section = $SECTION_LANGUAGE{ $row->{section} };
	my $tag = $LANGUAGE_TAG{$language} // lc $language;

	return 1 if $of_section && $of_section eq $language &&
		$row->{name} =~ /^(?:lib|python3?-|ruby-|golang-|node-|php-|r-|cl-|elpa-)/;
	return 1 if has_tag($row, qr/^devel::lang:\Q$tag\E$/) && $row->{name} =~ /^(?:lib|python3?-|ruby-)/;
	return undef if has_tag($row, qr/^(?:devel::lang|implemented-in):+\Q$tag\E$/);
	return undef if $of_section && $of_section eq $language;
	return undef if "$row->{name} $row->{summary} $row->{description}" =~
		($language =~ /^(?:R|Go)$/ ? qr/\b$language\b/ : qr/\b(?:lib)?\Q$language\E/i);
	return 0;
}

sub is_about
{
	my ($row, $topic) = @_;
	my $pattern = $TOPIC{$topic};

	return 1 if $row->{section} =~ $pattern->{section};
	return undef if has_tag($row, $pattern->{tag});
	return undef if "$row->{name} $row->{summary} $row->{description}" =~ $pattern->{word};
	return 0;
}

# By name: how to decide it, how often it is asked, a word that also texts of
# other packages have (near), and how it is worded; the first wording is the one
# that the demo and the measurements use.
our %CONDITIONS = (
	'game' => { holds => \&is_game, share => 8, near => qr/\bgam(?:e|ing)/i, wordings => [
		'The package is a game.', 'the package is a game', 'is a game', 'It is a game.',
		'This is a game', 'The text describes a game.', 'Is it a game?' ] },
	'library' => { holds => \&is_library, share => 8, near => qr/librar/i, wordings => [
		'The package is a library.', 'the package is a library', 'is a library', 'It is a library.',
		'This is a software library', 'The text describes a library.', 'Is it a library?' ] },
	'command-line tool' => { holds => \&is_command_line_tool, share => 8, near => qr/command|\btool|utilit/i,
		wordings => [ 'The package is a command-line tool.', 'the package is a command-line tool',
		'is a command-line tool', 'It is a command line tool.', 'This is a tool for the command line',
		'The text describes a command-line program.', 'Is it a command-line tool?' ] },
	'documentation' => { holds => \&is_documentation, share => 3, near => qr/document/i,
		wordings => [ 'The package is documentation.', 'the package contains documentation',
		'is documentation', 'It is the documentation of some software.', 'Is it documentation?' ] },
	'graphical' => { holds => \&is_graphical, share => 3, wordings => [
		'The package has a graphical interface.', 'the package is a program with a graphical user interface',
		'has a graphical interface', 'It has windows and menus.', 'Does it have a graphical interface?' ] },
	(map {
		my $language = $_;
		("for $language" => { holds => sub { is_of_language($_[0], $language) }, share => 0.7, wordings => [
			"The package is for $language developers.", "the package is a library for $language",
			"is for programmers who use $language", "It is written for $language.",
			"Is it for $language?" ] })
	} qw(Perl Python Java Haskell Ruby Rust Go JavaScript PHP OCaml Lisp R)),
	(map {
		my $topic = $_;
		("about $topic" => { holds => sub { is_about($_[0], $topic) }, share => 1, wordings => [
			"The package is about $topic.", "the package has to do with $topic", "is about $topic",
			"It is for $topic.", "Is it about $topic?" ] })
	} keys %TOPIC),
);

# The conditions that are measured.
our @MEASURED = ('game', 'library', 'command-line tool');

# Does a condition (by name) hold for a package?  1, 0, or undef: unknown.
sub truth
{
	my ($condition, $row) = @_;

	return $CONDITIONS{$condition}{holds}->($row);
}

1;
