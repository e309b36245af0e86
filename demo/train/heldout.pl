#!/usr/bin/perl
# heldout.pl
#	  The held-out rows and questions that the measurements take.
#
#	heldout.pl TABLE DIR [SPLIT]
#
# SPLIT is heldout, or valid to choose among models: who chooses by the figures
# of the held-out packages has no figures left.  Writes DIR/heldout.tsv and
# DIR/questions.tsv, in PostgreSQL's COPY text format, from the table that
# packages.pl made:
#
#	heldout		every package of the split; frequent says whether its section is
#				one of those that are measured, text is what the model reads
#	questions	for each measured condition every package of the split of which
#				the answer is known; picked are those of a sample with as many Yes
#				as No, those with the smallest MD5 of the name

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Digest::MD5 qw(md5_hex);
use Packages qw(%CONDITIONS @MEASURED escape read_packages write_atomically package_text frequent_sections
	truth);

@ARGV == 2 || @ARGV == 3 or die "usage: heldout.pl TABLE DIR [SPLIT]\n";
my ($table, $dir, $split) = (@ARGV, 'heldout');
my @all = read_packages($table);
my %frequent = map { $_ => 1 } frequent_sections(\@all);
my %md5 = map { $_->{name} => md5_hex($_->{name}) } @all;
my @heldout = sort { $md5{ $a->{name} } cmp $md5{ $b->{name} } }
	grep { $_->{split} eq $split } @all;
die "heldout.pl: \"$table\" has no packages of the split \"$split\"\n" if !@heldout;

write_atomically("$dir/heldout.tsv", [ map { join "\t", map { escape($_) }
	@$_{qw(name source section)}, $frequent{ $_->{section} } ? 't' : 'f',
	@$_{qw(summary description)}, package_text($_) } @heldout ]);

my @questions;
for my $condition (@MEASURED)
{
	my @by_answer = ([], []);

	for my $row (@heldout)
	{
		my $truth = truth($condition, $row);
		push @{ $by_answer[$truth] }, $row if defined $truth;
	}
	my ($fewer) = sort { $a <=> $b } map { scalar @$_ } @by_answer;
	for my $answer (0, 1)
	{
		my $n = 0;
		push @questions, map { join "\t", map { escape($_) } $_->{name}, $condition,
			$CONDITIONS{$condition}{wordings}[0], $answer ? 't' : 'f', $n++ < $fewer ? 't' : 'f',
			package_text($_) } @{ $by_answer[$answer] };
	}
}
write_atomically("$dir/questions.tsv", \@questions);
