#!/usr/bin/perl
# packages.pl
#	  Makes the table of packages from Debian's package registry.
#
#	packages.pl --fetch DIR OUT
#	packages.pl --from DIR OUT
#	packages.pl --demo N TABLE OUT
#
# The first two forms write packages.tsv: every package of the machine's Debian
# release with its English description.  The texts are those that the packages'
# maintainers wrote, published in the archive's indexes (Packages and
# Translation-en) under the licences of the packages, which are all free ones
# in Debian's sense (section "main").  --fetch asks the registry first, into a
# directory of its own: the system's lists stay as they are, and no privilege
# is needed.  --from reads a directory that was fetched before.
#
# The third form writes the demo's rows: N packages of the heldout split and
# the frequent sections, those with the smallest MD5 of the name.
#
# Both files are in PostgreSQL's COPY text format with a header line.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Digest::MD5 qw(md5_hex);
use File::Path qw(make_path);
use Getopt::Long;
use Packages qw(@COLUMNS escape read_packages write_atomically package_text frequent_sections
	split_of);

# ----------------------------------------------------------------
# The registry
# ----------------------------------------------------------------

sub apt_options
{
	my ($dir) = @_;

	return ('-o', "Dir::State::lists=$dir/lists", '-o', "Dir::Cache=$dir/cache",
		'-o', 'Acquire::Languages=en', '-o', 'APT::Sandbox::User=');
}

sub fetch
{
	my ($dir) = @_;

	make_path("$dir/lists/partial", "$dir/cache/archives/partial");
	# Any index that cannot be fetched is an error: half a table is none.
	system('apt-get', '-q', 'update', apt_options($dir), '-o', 'APT::Update::Error-Mode=any') == 0
		or die "could not fetch the lists of packages from Debian's registry; " .
			"is there a network, and do apt's sources name a Debian mirror?\n";
}

# Run a command, and call a function with each paragraph of its output.
sub each_paragraph
{
	my ($function, @command) = @_;

	open my $pipe, '-|', @command or die "could not run $command[0]: $!\n";
	binmode $pipe;
	local $/ = '';
	while (my $paragraph = <$pipe>)
	{
		$function->($paragraph);
	}
	close $pipe or die "$command[0] failed\n";
}

# A field of a paragraph, its continuation lines included; '' without it.
sub field
{
	my ($paragraph, $name) = @_;

	return $paragraph =~ /^\Q$name\E: ?(.*(?:\n[ \t].*)*)/m ? $1 : '';
}

# Descriptions (with the summary in the first line) by their MD5.
sub read_descriptions
{
	my ($dir) = @_;
	my %description;
	my @files = sort glob "'$dir/lists/'*Translation-en*";

	die "there are no English descriptions in \"$dir\"; fetch them with --fetch\n" if !@files;
	each_paragraph(sub {
		$description{ field($_[0], 'Description-md5') } = field($_[0], 'Description-en');
	}, '/usr/lib/apt/apt-helper', 'cat-file', @files);
	return \%description;
}

# A long description as text: paragraphs' lines joined, lists kept (Debian
# Policy, "Description": a line with two leading spaces is verbatim).
sub plain_description
{
	my ($lines) = @_;
	my $text = '';
	my $joins = 0;			# does the next line go on with the last one's paragraph?

	for my $line (split /\n/, $lines)
	{
		$line =~ tr/\t/ /;
		$line =~ s/^ //;
		$line =~ s/\s+$//;
		if ($line eq '.' || $line eq '')
		{
			$text .= "\n\n" if $text ne '';
			$joins = 0;
		}
		elsif ($line =~ /^ /)
		{
			$text .= "\n" if $text ne '' && $text !~ /\n$/;
			$text .= $line;
			$joins = 0;
		}
		else
		{
			$text .= $joins ? ' ' : $text =~ /(?:^|\n)$/ ? '' : "\n";
			$text .= $line;
			$joins = 1;
		}
	}
	$text =~ s/\n{3,}/\n\n/g;
	$text =~ s/^\s+|\s+$//g;
	return $text;
}

# A row from a paragraph of the index, or nothing when it has no use.
sub package_row
{
	my ($paragraph, $descriptions) = @_;
	my %row = (name => field($paragraph, 'Package'));
	my $description = $descriptions->{ field($paragraph, 'Description-md5') } // return;

	$row{source} = field($paragraph, 'Source') =~ s/ .*//r || $row{name};
	$row{section} = field($paragraph, 'Section') =~ s{.*/}{}r;
	$row{tags} = join ',', sort grep { $_ ne '' } split /[\s,]+/, field($paragraph, 'Tag');
	($row{summary}, my $lines) = split /\n/, $description, 2;
	$row{summary} =~ s/^\s+|\s+$//g;
	$row{description} = plain_description($lines // '');
	$row{split} = split_of($row{source});

	my $all = join "\n", @row{@COLUMNS};
	return if $row{summary} eq '' || $row{description} eq '' || $row{section} eq '';
	return if $row{name} =~ /-dbgsym$/ || $row{summary} =~ /transitional|dummy package/i;
	return if $row{description} =~ /transitional (?:dummy )?package/i;
	# Not a control token's name, and no control character.
	return if $all =~ /<\|/ || $all =~ /[\x00-\x09\x0B-\x1F\x7F]/ || !utf8::decode($all);
	return \%row;
}

sub make_table
{
	my ($dir, $out) = @_;
	my $descriptions = read_descriptions($dir);
	my %rows;
	my %n;

	# The index has the newest version of a package first.
	each_paragraph(sub {
		my $row = package_row($_[0], $descriptions);
		$rows{ $row->{name} } //= $row if $row;
	}, 'apt-cache', 'dumpavail', apt_options($dir));
	die "there are no packages with descriptions in \"$dir\"\n" if !%rows;

	my @rows = map { $rows{$_} } sort keys %rows;
	write_table($out, \@COLUMNS, [ map { [ @$_{@COLUMNS} ] } @rows ]);
	$n{ $_->{split} }++ for @rows;
	printf "%s: %d packages, %d train, %d valid, %d heldout\n", $out, scalar @rows,
		map { $n{$_} // 0 } qw(train valid heldout);
	print 'frequent sections: ', join(' ', frequent_sections(\@rows)), "\n";
}

# ----------------------------------------------------------------
# Tables
# ----------------------------------------------------------------

sub write_table
{
	my ($out, $columns, $rows) = @_;

	write_atomically($out, [ join("\t", @$columns),
		map { join "\t", map { escape($_) } @$_ } @$rows ]);
}

sub demo_table
{
	my ($n, $table, $out) = @_;
	my @rows = read_packages($table);
	my %frequent = map { $_ => 1 } frequent_sections(\@rows);
	my %md5 = map { $_->{name} => md5_hex($_->{name}) } @rows;
	my @heldout = sort { $md5{ $a->{name} } cmp $md5{ $b->{name} } }
		grep { $_->{split} eq 'heldout' && $frequent{ $_->{section} } } @rows;

	die "\"$table\" has fewer than $n heldout packages\n" if @heldout < $n;
	my @chosen = sort { $a->{name} cmp $b->{name} } @heldout[ 0 .. $n - 1 ];
	# The description as in package_text(): what is behind its first line.
	write_table($out, [qw(name source section summary description)], [ map {
		[ @$_{qw(name source section summary)}, package_text($_) =~ s/^.*\n//r ] } @chosen ]);
}

my ($fetch, $from, $demo);
my $usage = "usage: packages.pl {--fetch | --from} DIR OUT\n" .
	"       packages.pl --demo N TABLE OUT\n";

GetOptions('fetch=s' => \$fetch, 'from=s' => \$from, 'demo=i' => \$demo) or die $usage;
if (defined $demo)
{
	die $usage if @ARGV != 2 || defined $fetch || defined $from;
	demo_table($demo, @ARGV);
}
else
{
	die $usage if @ARGV != 1 || defined $fetch == defined $from;
	fetch($fetch) if defined $fetch;
	make_table($fetch // $from, $ARGV[0]);
}
