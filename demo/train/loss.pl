#!/usr/bin/perl
#
# loss.pl LOG.tsv > loss.svg
#
# Draw the trainer's log: training and validation loss against the tokens that
# were trained on, these on a logarithmic axis, because half of the way down is
# in the first hundredth.  The training loss of single steps jumps; what is
# drawn is its mean over pieces of equal width on that axis.
#
# The picture brings its background, and its colours for dark viewers.

use strict;
use warnings;
use POSIX qw(ceil floor log10);

use constant {
	WIDTH => 760, HEIGHT => 420,
	LEFT => 64, RIGHT => 24, TOP => 24, BOTTOM => 58,
	PIECES => 160,
};

# Columns of the log (trainer.h).
use constant { TOKENS => 1, TRAIN => 3, VALID => 7 };

die "usage: loss.pl LOG.tsv > loss.svg\n" if @ARGV != 1;
my ($train, $valid) = read_log($ARGV[0]);
die "loss.pl: $ARGV[0] has fewer than two steps\n" if @$train < 2;
my $pieces = pieces_of($train);

# The axes: decades of tokens, and losses at round numbers.
my ($x_low, $x_high) = (log10($train->[0][0]), log10($train->[-1][0]));
my @losses = sort { $a <=> $b } map { $_->[1] } @$pieces, @$valid;
my $y_step = $losses[-1] - $losses[0] > 4 ? 1 : 0.5;
my $y_low = floor($losses[0] / $y_step) * $y_step;
my $y_high = ceil($losses[-1] / $y_step) * $y_step;
$y_high += $y_step if $y_high == $y_low;

print_head();
print_axes();
print_curve('train', $pieces);
print_curve('valid', $valid);
print_key();
print "</svg>\n";

# Two lists of [tokens, loss]: of every step, and of those with a validation.
sub read_log
{
	my $path = shift;
	my (@train, @valid);

	open my $in, '<', $path or die "loss.pl: could not open $path: $!\n";
	while (<$in>)
	{
		chomp;
		my @fields = split /\t/, $_, -1;
		next if $fields[0] !~ /^\d+$/;	# the line of names
		my ($tokens, $train, $valid) = @fields[TOKENS, TRAIN, VALID];
		die "loss.pl: line $. of $path is not a step of training\n"
			if !is_number($tokens) || !is_number($train) || $tokens <= 0;
		push @train, [ $tokens, $train ];
		push @valid, [ $tokens, $valid ] if is_number($valid);
	}
	return (\@train, \@valid);
}

sub is_number
{
	my $field = shift;
	return defined $field && $field =~ /^-?\d+(?:\.\d*)?(?:e[-+]?\d+)?$/i;
}

# Means of tokens and loss over pieces of equal width in log(tokens).
sub pieces_of
{
	my $points = shift;
	my $low = log($points->[0][0]);
	my $width = (log($points->[-1][0]) - $low) / PIECES;
	my (@sums, @means);

	for my $point (@$points)
	{
		my $piece = int((log($point->[0]) - $low) / $width);
		$piece = PIECES - 1 if $piece >= PIECES;
		$sums[$piece][0]++;
		$sums[$piece][1] += $point->[0];
		$sums[$piece][2] += $point->[1];
	}
	push @means, [ $_->[1] / $_->[0], $_->[2] / $_->[0] ] for grep { defined } @sums;
	return \@means;
}

sub x_of
{
	my $tokens = shift;
	return LEFT + (WIDTH - LEFT - RIGHT) * (log10($tokens) - $x_low) / ($x_high - $x_low);
}

sub y_of
{
	my $loss = shift;
	return TOP + (HEIGHT - TOP - BOTTOM) * ($y_high - $loss) / ($y_high - $y_low);
}

sub print_head
{
	printf <<'END', WIDTH, HEIGHT, WIDTH, HEIGHT;
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="Helvetica, Arial, sans-serif" font-size="14">
<title>Loss during training</title>
<style>
.back { fill: #ffffff } .grid { stroke: #d8dce0; fill: none } .axis { stroke: #57606a; fill: none }
text { fill: #24292f } .line { fill: none; stroke-width: 2; stroke-linejoin: round }
.train { stroke: #6e9fd4 } .valid { stroke: #c2410c } .dot { stroke: none; fill: #c2410c }
@media (prefers-color-scheme: dark) {
.back { fill: #0d1117 } .grid { stroke: #30363d } .axis { stroke: #8b949e }
text { fill: #e6edf3 } .valid { stroke: #fb923c } .dot { fill: #fb923c }
}
</style>
<rect class="back" width="100%%" height="100%%"/>
END
}

# 1,000; 10,000; 100,000; 1 M; 10 M ...
sub tokens_label
{
	my $exponent = shift;
	return 10**($exponent - 6) . ' M' if $exponent >= 6;
	return reverse(reverse(10**$exponent) =~ s/(\d{3})(?=\d)/$1,/gr);
}

sub print_axes
{
	my ($left, $right, $top, $bottom) = (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM);

	for (my $loss = $y_low; $loss <= $y_high + 1e-9; $loss += $y_step)
	{
		my $y = y_of($loss);
		printf qq{<path class="grid" d="M%d %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end">%s</text>\n},
			$left, $y, $right, $left - 8, $y + 5, sprintf($y_step < 1 ? '%.1f' : '%d', $loss);
	}
	for my $exponent (floor($x_low) .. ceil($x_high))
	{
		for my $digit (1 .. 9)
		{
			my $x = x_of($digit * 10**$exponent);
			next if $x < $left - 0.1 || $x > $right + 0.1;
			if ($digit > 1)
			{
				printf qq{<path class="axis" d="M%.1f %dv-4"/>\n}, $x, $bottom;
				next;
			}
			printf qq{<path class="grid" d="M%.1f %dV%d"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>\n},
				$x, $top, $bottom, $x, $bottom + 20, scalar tokens_label($exponent);
		}
	}
	printf qq{<path class="axis" d="M%d %dV%dH%d"/>\n}, $left, $top, $bottom, $right;
	printf qq{<text x="%d" y="%d" text-anchor="middle">tokens trained on (logarithmic)</text>\n},
		($left + $right) / 2, HEIGHT - 12;
	printf qq{<text transform="translate(18 %d) rotate(-90)" text-anchor="middle">loss (nats per weighted token)</text>\n},
		($top + $bottom) / 2;
}

sub print_curve
{
	my ($class, $points) = @_;

	return if !@$points;
	printf qq{<path class="line %s" d="M%s"/>\n}, $class,
		join 'L', map { sprintf '%.1f %.1f', x_of($_->[0]), y_of($_->[1]) } @$points;
	return if $class eq 'train';
	printf qq{<circle class="dot" cx="%.1f" cy="%.1f" r="3"/>\n}, x_of($_->[0]), y_of($_->[1])
		for @$points;
}

sub print_key
{
	my $x = WIDTH - RIGHT - 250;
	my @rows = ([ 'train', sprintf 'training, %.2f at the end', $pieces->[-1][1] ]);

	push @rows, [ 'valid', sprintf 'validation, %.2f at the end', $valid->[-1][1] ] if @$valid;
	for my $i (0 .. $#rows)
	{
		my $y = TOP + 24 + 24 * $i;
		printf qq{<path class="line %s" d="M%d %dh28"/><text x="%d" y="%d">%s</text>\n},
			$rows[$i][0], $x, $y, $x + 38, $y + 5, $rows[$i][1];
	}
}
