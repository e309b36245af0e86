# The mistakes that somebody makes who loads weights of his own: each gets a
# message that says what to do, from llama_load_model and llama_model_plan
# alike.  The messages are compared whole.

use strict;
use warnings;
use lib '.', 't';
use File::Copy qw(copy);
use File::Path qw(make_path);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Llama3Test;

# A directory that no other test has put models into.
my $dir = model_directory() . '/own';
make_path($dir);
my $user = getpwuid($<);
my @tiny = qw(--preset tiny --type q8_0 --seed 3);
my @tiny_hf = qw(--preset tiny --type bf16 --seed 3 --chat llama31);

sub mkmodel
{
	system("$ENV{LLAMA3_BIN}/mkmodel", @_) == 0 or BAIL_OUT("mkmodel @_ failed");
}

# A Hugging Face directory of that name.
sub make_hf
{
	my ($name, @options) = @_;
	mkmodel(@tiny_hf, @options, '--hf', "$dir/$name");
}

# A text without its last newline.
sub lines
{
	my ($text) = @_;
	chomp $text;
	return $text;
}

# A file with that content, in a directory that is made when it is not there.
sub put
{
	my ($path, $content) = @_;
	make_path("$dir/" . ($path =~ s{[^/]*$}{}r));
	open my $file, '>:raw', "$dir/$path" or die "$path: $!";
	print $file $content;
	close $file;
}

# A copy of a file that some code has changed.
sub change
{
	my ($from, $to, $code) = @_;
	local $_ = slurp_file("$dir/$from");
	$code->();
	put($to, $_);
}

my $node = start_node('main', "llama3.models = ''", "llama3.model_directory = '$dir'");

# Run SQL; its messages without psql's prefix, with the model directory as DIR.
sub messages_of
{
	my ($sql, @params) = @_;
	my ($ret, $out, $err) = $node->psql('postgres', $sql, extra_params => [@params]);
	$err =~ s/^psql:[^ ]* //mg;
	$err =~ s/\Q$dir\E/DIR/g;
	return $err;
}

# Loading raises this; the plan raises it too, or its note says it.
sub mistake
{
	my ($path, $expected, $what) = @_;
	subtest $what => sub {
		is(messages_of("SELECT llama_load_model('$path', 'own')"), $expected, 'the load says so');
		my $planned = messages_of("SELECT * FROM llama_model_plan('$path')");
		if ($planned eq '')
		{
			my ($fits, $note) = split /\|/, $node->safe_psql('postgres',
				"SELECT fits, note FROM llama_model_plan('$path')");
			$note =~ s/\Q$dir\E/DIR/g;
			my ($error) = $expected =~ /^ERROR:  (.*)$/m;
			my ($detail) = $expected =~ /^DETAIL:  (.*)$/m;
			my ($hint) = $expected =~ /^HINT:  (.*)$/m;
			my $said = "cannot be loaded: $error" . (defined $detail ? ": $detail" : '')
			  . (defined $hint ? (defined $detail ? " $hint" : ": $hint") : '');
			is($fits, 'f', 'the plan: it does not fit');
			is(substr($note, 0, length $said), $said, 'and its note says why');
		}
		else
		{
			is($planned, $expected, 'and so does the plan');
		}
		is($node->safe_psql('postgres', 'SELECT count(*) FROM llama_models'), '0', 'nothing is left');
	};
}

# ----------------------------------------------------------------
# Paths
# ----------------------------------------------------------------

my $server_side = 'The path is one of the server\'s machine. '
  . 'Put the model\'s files into a directory that the server can read, such as llama3.model_directory.';
mistake('nowhere.gguf', lines(<<"END"), 'nothing there, and no model nearby');
ERROR:  could not open model "DIR/nowhere.gguf": No such file or directory
HINT:  $server_side
END
mkmodel(@tiny, '--chat', 'llama31', '--out', "$dir/Llama-3.2-1B-Instruct-Q8_0.gguf");
mistake('nowhere.gguf', lines(<<'END'), 'nothing there, and one model nearby');
ERROR:  could not open model "DIR/nowhere.gguf": No such file or directory
HINT:  The only model nearby is "Llama-3.2-1B-Instruct-Q8_0.gguf".
END
mkmodel(@tiny, '--split', 3, '--chat', 'llama31', '--out', "$dir/parts.gguf");
mistake('nowhere.gguf', lines(<<'END'), 'nothing there, and several models nearby');
ERROR:  could not open model "DIR/nowhere.gguf": No such file or directory
HINT:  There are 2 models nearby, such as "Llama-3.2-1B-Instruct-Q8_0.gguf".
END
mistake('llama-3.2-1b-instruct-q8.gguf', lines(<<'END'), 'a slip in a name');
ERROR:  could not open model "DIR/llama-3.2-1b-instruct-q8.gguf": No such file or directory
HINT:  Perhaps you meant "Llama-3.2-1B-Instruct-Q8_0.gguf".
END
put('Llama-3.2-1B-Instruct/config.json', '');
mistake('Llama-3.2-1B-Instruct-Q8', lines(<<'END'), 'the beginning of two names: the longer');
ERROR:  could not open model "DIR/Llama-3.2-1B-Instruct-Q8": No such file or directory
HINT:  Perhaps you meant "Llama-3.2-1B-Instruct-Q8_0.gguf".
END
unlink "$dir/Llama-3.2-1B-Instruct/config.json";
mistake('Llama-3.2-1B', lines(<<'END'), 'the beginning of a name');
ERROR:  could not open model "DIR/Llama-3.2-1B": No such file or directory
HINT:  Perhaps you meant "Llama-3.2-1B-Instruct-Q8_0.gguf".
END
mistake('/nonexistent/m/Llama-3.2-1B-Instruct-Q8_0.gguf', lines(<<'END'), 'a directory that is not there');
ERROR:  could not open model "/nonexistent/m/Llama-3.2-1B-Instruct-Q8_0.gguf": No such file or directory
DETAIL:  There is no directory "/nonexistent".
HINT:  Perhaps you meant "Llama-3.2-1B-Instruct-Q8_0.gguf".
END
mistake('meta-llama/Llama-3.2-1B-Instruct', lines(<<'END'), 'the name of a repository');
ERROR:  could not open model "DIR/meta-llama/Llama-3.2-1B-Instruct": No such file or directory
DETAIL:  There is no directory "DIR/meta-llama".
HINT:  Perhaps you meant "Llama-3.2-1B-Instruct-Q8_0.gguf".
END
mistake('~/models/x.gguf', lines(<<'END'), 'a path for a shell');
ERROR:  path "~/models/x.gguf" starts with "~"
HINT:  Write the directory in full; it must be one that the server's user can read.
END
mistake('https://example.org/x.gguf', lines(<<'END'), 'an address');
ERROR:  "https://example.org/x.gguf" is not a path
DETAIL:  Models are not downloaded by the server.
HINT:  Download the model's files, put them into llama3.model_directory, and give their name.
END
$node->safe_psql('postgres', 'CREATE ROLE someone LOGIN');
$node->safe_psql('postgres', 'GRANT EXECUTE ON FUNCTION llama_load_model(text, text, text) TO someone');
is(messages_of("SELECT llama_load_model('nowhere.gguf')", '-U', 'someone'),
	lines(<<"END"), 'who may not read all files is not told what there is');
ERROR:  could not open model "DIR/nowhere.gguf": No such file or directory
HINT:  $server_side
END

# ----------------------------------------------------------------
# Permissions
# ----------------------------------------------------------------

make_path("$dir/closed");
copy("$dir/Llama-3.2-1B-Instruct-Q8_0.gguf", "$dir/closed/m.gguf");
chmod 0, "$dir/closed/m.gguf";
mistake('closed/m.gguf', lines(<<"END"), 'a file that the server may not read');
ERROR:  could not open file "DIR/closed/m.gguf": Permission denied
DETAIL:  The server runs as user "$user", who may not read this file.
HINT:  Move the model to a directory that this user can read, or give him the permission.
END
chmod 0, "$dir/closed";
mistake('closed/m.gguf', lines(<<"END"), 'a file in a directory that the server may not enter');
ERROR:  could not open model "DIR/closed/m.gguf": Permission denied
DETAIL:  The server runs as user "$user", who may not enter directory "DIR/closed".
HINT:  Move the model to a directory that this user can read, or give him the permission.
END
mistake('closed', lines(<<"END"), 'that directory itself');
ERROR:  could not open file "DIR/closed/config.json": Permission denied
DETAIL:  The server runs as user "$user", who may not enter directory "DIR/closed".
HINT:  Move the model to a directory that this user can read, or give him the permission.
END
chmod 0700, "$dir/closed";

# ----------------------------------------------------------------
# Directories
# ----------------------------------------------------------------

make_path("$dir/empty");
mistake('empty', lines(<<'END'), 'an empty directory');
ERROR:  directory "DIR/empty" holds no model
DETAIL:  It is empty, or cannot be listed.
HINT:  Give the path of a .gguf file, or of a directory with config.json, tokenizer.json and *.safetensors files.
END
put('repo/x-Q4_K_M.gguf', '');
mistake('repo', lines(<<'END'), 'the directory of a GGUF file');
ERROR:  "DIR/repo" is a directory of GGUF files
HINT:  Give the path of the file, "DIR/repo/x-Q4_K_M.gguf".
END
put('repo/x-Q8_0.gguf', '');
mistake('repo', lines(<<'END'), 'the directory of several');
ERROR:  "DIR/repo" is a directory of GGUF files
HINT:  Give the path of one of them, such as "DIR/repo/x-Q4_K_M.gguf".
END
put('original/consolidated.00.pth', '');
put('original/params.json', '{}');
put('original/tokenizer.model', '');
mistake('original', lines(<<'END'), 'Meta\'s own form');
ERROR:  directory "DIR/original" holds no model
DETAIL:  Found "consolidated.00.pth", a checkpoint of PyTorch, which is not supported.
HINT:  This is Meta's own form. Download the model in the form of transformers instead: config.json, tokenizer.json, tokenizer_config.json and the *.safetensors files, which are beside the directory "original"; or a GGUF file.
END
put('adapter/adapter_config.json', '{}');
put('adapter/adapter_model.safetensors', '');
mistake('adapter', lines(<<'END'), 'an adapter');
ERROR:  directory "DIR/adapter" holds an adapter, not a model
DETAIL:  Found "adapter_config.json".
HINT:  Merge the adapter (LoRA) into the model that it was trained for, and load the result.
END
put('models--org--name/snapshots/abc/config.json', '');
put('models--org--name/blobs/123', '');
mistake('models--org--name', lines(<<'END'), 'the cache of a hub\'s tool');
ERROR:  directory "DIR/models--org--name" holds no model
DETAIL:  It has no config.json.
HINT:  Give the path of a directory in its "snapshots".
END

make_hf('hf');
rename "$dir/hf/config.json", "$dir/aside";
mistake('hf', lines(<<'END'), 'a directory without config.json');
ERROR:  directory "DIR/hf" holds no model
DETAIL:  It has no config.json.
HINT:  Download config.json, tokenizer.json and tokenizer_config.json too, from where the *.safetensors files are from.
END
rename "$dir/aside", "$dir/hf/config.json";
rename "$dir/hf/tokenizer.json", "$dir/aside";
mistake('hf', lines(<<'END'), 'a directory without tokenizer.json');
ERROR:  directory "DIR/hf" has no tokenizer.json
HINT:  Download tokenizer.json too, and tokenizer_config.json, which has the chat template, from where the weights are from.
END
rename "$dir/aside", "$dir/hf/tokenizer.json";
rename "$dir/hf/model.safetensors", "$dir/aside";
mistake('hf', lines(<<'END'), 'a directory without weights');
ERROR:  directory "DIR/hf" has no weights
DETAIL:  Expected model.safetensors or model.safetensors.index.json.
HINT:  Download the model's *.safetensors files too.
END
put('hf/pytorch_model.bin', '');
mistake('hf', lines(<<'END'), 'a directory with weights of PyTorch');
ERROR:  directory "DIR/hf" has no weights
DETAIL:  Found "pytorch_model.bin", a checkpoint of PyTorch, which is not supported.
HINT:  Download the model's *.safetensors files instead, or a GGUF file, or convert the checkpoint to safetensors.
END
unlink "$dir/hf/pytorch_model.bin";
put('hf/model.safetensors.part', '');
mistake('hf', lines(<<'END'), 'a directory whose weights are being downloaded');
ERROR:  directory "DIR/hf" is still being filled
DETAIL:  File "model.safetensors.part" is a download that is not complete.
HINT:  Wait until the download is complete, or start it again if it was broken off.
END
unlink "$dir/hf/model.safetensors.part";
rename "$dir/aside", "$dir/hf/model.safetensors";
mistake('hf/model.safetensors', lines(<<'END'), 'a file instead of its directory');
ERROR:  "DIR/hf/model.safetensors" is one file of a model
HINT:  Give the path of the directory that holds config.json, tokenizer.json and the safetensors files.
END

make_hf('shards', '--split', 3);
unlink "$dir/shards/model-00002-of-00003.safetensors", "$dir/shards/model-00003-of-00003.safetensors";
mistake('shards', lines(<<'END'), 'files of the weights are missing');
ERROR:  could not open file "DIR/shards/model-00002-of-00003.safetensors": No such file or directory
DETAIL:  The model has 3 files of weights, and 2 of them are missing.
HINT:  Complete the download; all files of a model belong into one directory, under the names that they were published with.
END
unlink "$dir/shards/model.safetensors.index.json";
mistake('shards', lines(<<'END'), 'the index of the weights is missing');
ERROR:  directory "DIR/shards" has no weights
DETAIL:  It has "model-00001-of-00003.safetensors", but neither model.safetensors nor model.safetensors.index.json.
HINT:  Download model.safetensors.index.json too, which tells which file holds what.
END

# ----------------------------------------------------------------
# Parts of a GGUF
# ----------------------------------------------------------------

mistake('parts-00002-of-00003.gguf', lines(<<'END'), 'a later part');
ERROR:  "DIR/parts-00002-of-00003.gguf" is not the first part of a model
DETAIL:  It is part 2 of 3.
HINT:  Give the path of the part that ends in -00001-of-00003.gguf.
END
make_path("$dir/blobs", "$dir/snapshot");
for my $part (1 .. 3)
{
	my $name = "parts-0000$part-of-00003.gguf";
	copy("$dir/$name", "$dir/blobs/$part");
	symlink "../blobs/$part", "$dir/snapshot/$name";
}
is($node->safe_psql('postgres', "SELECT llama_load_model('snapshot/parts-00001-of-00003.gguf')"), 'parts',
	'parts that are symbolic links to files of other names are loaded');
$node->safe_psql('postgres', "SELECT llama_unload_model('parts')");
unlink "$dir/parts-00003-of-00003.gguf";
mistake('parts-00001-of-00003.gguf', lines(<<'END'), 'a missing part');
ERROR:  could not open file "DIR/parts-00003-of-00003.gguf": No such file or directory
DETAIL:  The model has 3 files of weights, and 1 of them is missing.
HINT:  Complete the download; all files of a model belong into one directory, under the names that they were published with.
END
copy("$dir/parts-00001-of-00003.gguf", "$dir/renamed.gguf");
mistake('renamed.gguf', lines(<<'END'), 'a part under another name');
ERROR:  file "DIR/renamed.gguf" is not the part of a model that its name says
DETAIL:  Its header says part 1 of 3, its name part 1 of 1.
HINT:  Keep the names that the parts were published with, all in one directory.
END

# ----------------------------------------------------------------
# Downloads
# ----------------------------------------------------------------

my $tiny = 'Llama-3.2-1B-Instruct-Q8_0.gguf';
my $full = -s "$dir/$tiny";
my $cut = $full - 1000;
change($tiny, 'cut.gguf', sub { substr($_, -1000) = '' });
mistake('cut.gguf', lines(<<"END"), 'a GGUF file that is not complete');
ERROR:  file "DIR/cut.gguf" is truncated
DETAIL:  Its header describes $full bytes, the file has $cut.
HINT:  The file is damaged or still being downloaded; complete the download and try again.
END
$full = -s "$dir/hf/model.safetensors";
$cut = $full - 1000;
make_hf('cut');
change('hf/model.safetensors', 'cut/model.safetensors', sub { substr($_, -1000) = '' });
mistake('cut', lines(<<"END"), 'a safetensors file that is not complete');
ERROR:  file "DIR/cut/model.safetensors" is truncated
DETAIL:  Its header describes $full bytes, the file has $cut.
HINT:  The file is damaged or still being downloaded; complete the download and try again.
END
for my $ending (qw(.part .crdownload .incomplete .aria2))
{
	copy("$dir/$tiny", "$dir/x.gguf$ending");
	mistake("x.gguf$ending", lines(<<"END"), "a name that ends in $ending");
ERROR:  "DIR/x.gguf$ending" is a download that is not complete
DETAIL:  Its name ends in "$ending".
HINT:  Wait until the download is complete, then give the file's final name.
END
}
copy("$dir/$tiny", "$dir/x.gguf");
mistake('x.gguf', lines(<<'END'), 'a file whose download has a control file');
ERROR:  file "DIR/x.gguf" is still being downloaded
DETAIL:  The download's control file "DIR/x.gguf.aria2" is beside it.
HINT:  Wait until the download is complete, or start it again if it was broken off.
END
my $pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1321083008\n";
put('lfs.gguf', $pointer);
mistake('lfs.gguf', lines(<<'END'), 'a pointer of git-lfs');
ERROR:  file "DIR/lfs.gguf" is not a GGUF file
DETAIL:  It looks like a git-lfs pointer, not the model itself.
HINT:  Run "git lfs pull" in the repository, or download the file itself.
END
make_hf('lfs');
put('lfs/model.safetensors', $pointer);
mistake('lfs', lines(<<'END'), 'a pointer of git-lfs in a directory');
ERROR:  file "DIR/lfs/model.safetensors" is not a safetensors file
DETAIL:  It looks like a git-lfs pointer, not the model itself.
HINT:  Run "git lfs pull" in the repository, or download the file itself.
END
put('page.gguf', "<!doctype html>\n<html class=\"\">");
mistake('page.gguf', lines(<<'END'), 'a web page');
ERROR:  file "DIR/page.gguf" is not a GGUF file
DETAIL:  It looks like a web page.
HINT:  Download the file itself, not the page that shows it.
END
put('gated.gguf', "Access to model meta-llama/Llama-3.2-1B is restricted. You must have access to it.");
mistake('gated.gguf', lines(<<'END'), 'a hub\'s refusal');
ERROR:  file "DIR/gated.gguf" is not a GGUF file
DETAIL:  It looks like the answer of a hub that keeps the model behind its licence.
HINT:  Accept the licence on the model's page, and download the file again with your access token.
END
put('zero.gguf', '');
mistake('zero.gguf', lines(<<'END'), 'an empty file');
ERROR:  file "DIR/zero.gguf" is not a GGUF file
DETAIL:  The file is empty.
HINT:  The download has failed or not begun; download the file again.
END
change($tiny, 'reserved.gguf', sub { $_ = "\0" x length });
mistake('reserved.gguf', lines(<<'END'), 'a file that was reserved and not filled');
ERROR:  file "DIR/reserved.gguf" is not a GGUF file
DETAIL:  It starts with zeros, as a file that a download has reserved and not filled.
HINT:  Wait until the download is complete, or start it again if it was broken off.
END

# The size is right and the headers are there: only a load finds out.
change($tiny, 'half.gguf', sub {
	my $from = int(length() * 0.6);
	substr($_, $from) = "\0" x (length() - $from);
});
like(messages_of("SELECT llama_load_model('half.gguf')"),
	qr/\AERROR:  tensor "[a-z0-9_.]*norm\.weight" of model "DIR\/half\.gguf" has only zeros
DETAIL:  A download that is not complete looks like this where the file's size was reserved at first\.
HINT:  Complete the download, or get the file anew, and compare its checksum with the published one\.\z/,
	'a file that was reserved and filled by half');
make_hf('hole');
change('hf/model.safetensors', 'hole/model.safetensors', sub {
	my ($begin, $end) = /"model\.layers\.1\.mlp\.up_proj\.weight": ?\{[^}]*"data_offsets": ?\[(\d+), ?(\d+)\]/
	  or die 'no such tensor';
	substr($_, 8 + unpack('Q<', $_) + $begin, $end - $begin) = "\0" x ($end - $begin);
});
is(messages_of("SELECT llama_load_model('hole')"), lines(<<'END'), 'a matrix of zeros is loaded with a warning');
WARNING:  model "hole" may answer poorly
DETAIL:  Tensor "model.layers.1.mlp.up_proj.weight" has only zeros; if the download was not complete, get the file anew.
END
$node->safe_psql('postgres', "SELECT llama_unload_model('hole')");

# ----------------------------------------------------------------
# Other models
# ----------------------------------------------------------------

my $llama3 = 'Take a model of Llama 3, 3.1, 3.2 (1B, 3B) or 3.3, or one that was trained from these.';
my %families = (
	qwen2 => $llama3,
	gemma2 => $llama3,
	llama4 => 'Llama 4 is a mixture of experts; take a text model of Llama 3, 3.1, 3.2 (1B, 3B) or 3.3.',
	mllama => 'Llama 3.2 11B and 90B read images; take a text model: Llama 3.2 1B or 3B, 3.1 8B, or 3.3 70B.',
	clip => 'This is the part of a model that reads images; give the path of the model\'s own file.',
	bert => 'Embedding models are not supported; llama_embed works with every Llama 3 model.',
);
for my $family (sort keys %families)
{
	mkmodel(@tiny, '--arch', $family, '--out', "$dir/$family.gguf");
	mistake("$family.gguf", lines(<<"END"), "a GGUF file of $family");
ERROR:  architecture of model "DIR/$family.gguf" is not supported
DETAIL:  Found general.architecture "$family", expected "llama".
HINT:  $families{$family}
END
}
for my $family (qw(mistral mixtral mllama))
{
	my $hint = $families{$family} // $llama3;
	make_hf($family);
	change('hf/config.json', "$family/config.json", sub { s/"model_type": ?"llama"/"model_type": "$family"/ or die });
	mistake($family, lines(<<"END"), "a directory of $family");
ERROR:  architecture of model "DIR/$family" is not supported
DETAIL:  Found model_type "$family", expected "llama".
HINT:  $hint
END
}
# general.alignment has its default, so another key can take its place.  Tensors
# are not where they were then; the file's kind is looked at first.
change($tiny, 'lora.gguf', sub {
	my $key = pack('Q<', 17) . 'general.alignment' . pack('VV', 4, 32);
	my $at = index($_, $key);
	die 'no such key' if $at < 0;
	substr($_, $at, length $key) = pack('Q<', 12) . 'general.type' . pack('VQ<', 8, 7) . 'adapter';
});
mistake('lora.gguf', lines(<<'END'), 'an adapter as a GGUF file');
ERROR:  file "DIR/lora.gguf" holds no model
DETAIL:  Found general.type "adapter", expected "model".
HINT:  Merge the adapter (LoRA) into the model that it was trained for, and load the result.
END
change($tiny, 'llama2.gguf', sub { s/(tokenizer\.ggml\.model.{4}.{8})gpt2/$1bert/s or die });
mistake('llama2.gguf', lines(<<'END'), 'another tokenizer');
ERROR:  tokenizer of file "DIR/llama2.gguf" is not supported
DETAIL:  Found tokenizer.ggml.model = "bert", expected "gpt2" (byte-level BPE).
HINT:  Llama 1, Llama 2 and Mistral have another tokenizer; take a Llama 3 model.
END
change($tiny, 'iq2.gguf', sub { s/(blk\.0\.attn_v\.weight.{4}.{16})\x08\0\0\0/$1 . pack('V', 22)/se or die });
mistake('iq2.gguf', lines(<<'END'), 'a quantisation that is not supported');
ERROR:  tensor "blk.0.attn_v.weight" in file "DIR/iq2.gguf" has an unsupported type
DETAIL:  Found IQ2_S; supported are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS.
HINT:  Use a file in another quantisation, such as Q4_K_M or Q8_0.
END
put('old.bin', 'tjgg' . ("\1\0\0\0" x 20));
mistake('old.bin', lines(<<'END'), 'a file of a time before GGUF');
ERROR:  file "DIR/old.bin" is not a GGUF file
DETAIL:  It looks like a GGML file of a time before GGUF.
HINT:  Take a GGUF file of a Llama 3 model; older files hold older models.
END

# ----------------------------------------------------------------
# Models that load, and what is said of them
# ----------------------------------------------------------------

my $works = 'llama_complete, llama_embed and llama_logprobs work with every model.';
mkmodel(@tiny, '--chat', 'none', '--out', "$dir/Llama-3.2-1B-Q8_0.gguf");
my $base = lines(<<"END");
model "Llama-3.2-1B-Q8_0" cannot chat
DETAIL:  Its file has no chat template, which is so of base models.
HINT:  Load the Instruct model, such as "Llama-3.2-1B-Instruct-Q8_0". $works
END
is(messages_of("SELECT llama_load_model('Llama-3.2-1B-Q8_0.gguf')"), "NOTICE:  $base",
	'a base model: said when it is loaded');
is(messages_of("SELECT llama_generate('x')"), "ERROR:  $base", 'and when it is to chat');
like($node->safe_psql('postgres', "SELECT note FROM llama_model_plan('Llama-3.2-1B-Q8_0.gguf')"),
	qr/^fits .*; the model cannot chat, its file has no chat template/, 'and by the plan');
is(messages_of("SELECT llama_load_model('Llama-3.2-1B-Q8_0.gguf')"), lines(<<'END'), 'a name that is taken');
ERROR:  model "Llama-3.2-1B-Q8_0" already exists
HINT:  Unload it with llama_unload_model(), or choose another name.
END
is(messages_of("SELECT llama_load_model('Llama-3.2-1B-Q8_0.gguf', 'twin')"), lines(<<"END"), 'the same weights under two names');
NOTICE:  model "twin" has the same weights as model "Llama-3.2-1B-Q8_0"
DETAIL:  Each of them takes 2 MB.
HINT:  Unload one of them with llama_unload_model(), unless both are wanted.
NOTICE:  model "twin" cannot chat
DETAIL:  Its file has no chat template, which is so of base models.
HINT:  Load an Instruct model with the chat template of Llama 3. $works
END
$node->safe_psql('postgres', 'SELECT llama_unload_model(name) FROM llama_models');
unlink "$dir/hf/tokenizer_config.json";
like(messages_of("SELECT llama_load_model('hf')"), qr/\AWARNING:  model "hf" may answer poorly
DETAIL:  The directory has no tokenizer_config\.json, in which the chat template would be; download it too\.
NOTICE:  model "hf" cannot chat$/m, 'a directory without tokenizer_config.json');
$node->safe_psql('postgres', 'SELECT llama_unload_model(name) FROM llama_models');

# A name that is being loaded: its backend is stopped meanwhile.
make_model('own/large.gguf', qw(--preset tiny --layers 12 --embd 1280 --heads 20 --kv-heads 4 --head-dim 64
	--ff 5120 --type q8_0 --chat llama31 --seed 4));
my $client = spawn_sql($node, "SELECT llama_load_model('large.gguf')");
wait_until('the load runs', sub {
	$node->safe_psql('postgres', 'SELECT progress > 0 FROM llama_models') eq 't' });
my $pid = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity
	WHERE query LIKE 'SELECT llama_load_model(%' AND state = 'active'});
kill 'STOP', $pid;
is(messages_of("SELECT llama_load_model('large.gguf')"), lines(<<'END'), 'a name that is being loaded');
ERROR:  model "large" is being loaded by another process
HINT:  Wait for it, or choose another name; llama_models shows the progress.
END
kill 'CONT', $pid;
is(finish_sql($client), 0, 'and is loaded in the end');
$node->safe_psql('postgres', 'SELECT llama_unload_model(name) FROM llama_models');

# ----------------------------------------------------------------
# Memory, and the weights cache
# ----------------------------------------------------------------

sub set
{
	my ($name, $value) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET $name = '$value'");
	$node->safe_psql('postgres', 'SELECT pg_reload_conf()');
	wait_until("$name arrives", sub { $node->safe_psql('postgres', "SHOW $name") eq $value });
}

mkmodel(@tiny, qw(--ctx 1048576 --out), "$dir/long.gguf");
$node->append_conf('postgresql.conf', 'llama3.kv_cache_size = 16MB');
$node->restart;
like($node->safe_psql('postgres', "SELECT note FROM llama_model_plan('long.gguf')"),
	qr/^fits with room for \d+ tokens of KV cache \(llama3\.kv_cache_size\), less than the context of 1048576/,
	'a KV cache that is smaller than the context: the plan says what limits it');

my $space = $node->basedir;
append_to_file("$space/file", '');
mkdir "$space/closed", 0500;
for my $place (['missing', 'No such file or directory'], ['file', 'Not a directory'], ['closed', 'Permission denied'])
{
	my ($name, $why) = @$place;
	my $error = lines(<<"END");
could not use llama3.weights_cache "$space/$name": $why
DETAIL:  It must be a directory that user "$user", as whom the server runs, may write.
HINT:  As root: install -d -o $user -m 700 "$space/$name"
END
	set('llama3.weights_cache', "$space/$name");
	is(messages_of("SELECT llama_load_model('$tiny')"), "ERROR:  $error", "weights cache, $why: the load says so");
	is($node->safe_psql('postgres', "SELECT fits, note FROM llama_model_plan('$tiny')"),
		'f|' . ($error =~ s/\nDETAIL:  /: /r =~ s/\nHINT:  / /r), 'and so does the plan');
}
set('llama3.weights_cache', '');

# /dev/shm, which is smaller than the memory, is in 012.
$node->append_conf('postgresql.conf', 'dynamic_shared_memory_type = sysv');
$node->restart;
mkmodel(qw(--preset 405b --type bf16 --header-only --out), "$dir/405b.gguf");
mkmodel(qw(--preset 405b --type q8_0 --header-only --out), "$dir/405b-q8_0.gguf");
my $smaller = 'ake a file in a smaller quantisation, such as Q4_K_M, or a smaller model, or unload another one.';
my $needs = qr/It needs \d+ MB, and \d+ MB are free\./;
like($node->safe_psql('postgres', "SELECT note FROM llama_model_plan('405b.gguf')"),
	qr/not enough memory to load model "405b": $needs Load it with quantize => 'q8_0', which takes about half, or t\Q$smaller\E/,
	'not enough memory for 16 bits: what is needed, what is free, how to choose');
like($node->safe_psql('postgres', "SELECT note FROM llama_model_plan('405b-q8_0.gguf')"),
	qr/not enough memory to load model "405b-q8_0": $needs T\Q$smaller\E/, 'and for 8 bits');

# ----------------------------------------------------------------
# From llama3.models, and without llama3.model_directory
# ----------------------------------------------------------------

$node->append_conf('postgresql.conf', "llama3.models = 'own=Llama-3.2-1B-Instruct-Q8.gguf'");
$node->restart;
is(messages_of("SELECT llama_generate('x', model => 'own')"), lines(<<'END'), 'llama3.models names a file that is not there');
ERROR:  model "own" could not be loaded
DETAIL:  could not open model "DIR/Llama-3.2-1B-Instruct-Q8.gguf": No such file or directory
HINT:  Perhaps you meant "Llama-3.2-1B-Instruct-Q8_0.gguf".
END
is(messages_of("SELECT llama_generate('x', model => 'own')", '-U', 'someone'), lines(<<'END'), 'who may not see the settings is not told what there is');
ERROR:  model "own" could not be loaded
DETAIL:  could not open model "DIR/Llama-3.2-1B-Instruct-Q8.gguf": No such file or directory
END

$node->append_conf('postgresql.conf', "llama3.model_directory = ''\nllama3.models = ''");
$node->restart;
mistake('x.gguf', lines(<<'END'), 'a relative path without a model directory');
ERROR:  relative path "x.gguf" needs llama3.model_directory
HINT:  Give an absolute path, or ALTER SYSTEM SET llama3.model_directory, then SELECT pg_reload_conf().
END
$node->stop;

done_testing();
