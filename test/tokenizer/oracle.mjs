/*
 * Our encoder against that of the npm package, on the real vocabulary.
 *
 *   node oracle.mjs PACKAGE_DIRECTORY ENCODE_STDIN WORK_DIRECTORY
 *
 * Where the package differs from the tokenizers that the models were trained
 * with, for reasons of JavaScript's regular expressions:
 *   - its \s has U+FEFF and lacks U+0085 (Unicode's White_Space is the reverse);
 *   - it writes (?i:'s) out as '[sS], so that U+017F is no s.
 * The main comparison has no such text.  A second one does, with the package's
 * own encoder given the same pattern in White_Space and with the long s.
 * Invalid bytes have no JavaScript string: there the texts on both sides must
 * give the package's tokens, and the program checks the round trip.
 */
import {spawnSync} from 'node:child_process';
import {readFileSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import {pathToFileURL} from 'node:url';
import {exportSpec, byteOf} from './export_spec.mjs';
import {Random, makeDifferingTexts, makeInvalidTexts, makeSpecialTexts, makeTexts} from './strings.mjs';

const SEED = 20240726;
const N_TEXTS = 20000;
const N_EXTRA = 2000;
const RUN_BYTES = 1000000;
const FIRST_SPECIAL = 128000;

const [packageDir, program, workDir] = process.argv.slice(2);
const {fromPreTrained, tokenizerConfig} = await import(pathToFileURL(join(packageDir, 'dist/main.mjs')).href);
const json = JSON.parse(readFileSync(join(packageDir, 'models/tokenizer.json'), 'utf8'));
const tokenizer = fromPreTrained();
const theirs = (text, using = tokenizer) => using.encode(text, {add_special_tokens: false});

let count = 0;
let failures = 0;

function ok(passed, what) {
	count++;
	if (!passed)
		failures++;
	console.log(`${passed ? '' : 'not '}ok ${count} - ${what}`);
}

function note(text) {
	for (const line of text.trim().split('\n'))
		console.log(`# ${line}`);
}

/** Send requests [kind, string or Buffer] to the program; an array of ids for each. */
function ours(spec, requests) {
	const input = [];
	for (const [kind, text] of requests) {
		const bytes = Buffer.isBuffer(text) ? text : Buffer.from(text, 'utf8');
		const head = Buffer.alloc(5);
		head[0] = kind.charCodeAt(0);
		head.writeUInt32LE(bytes.length, 1);
		input.push(head, bytes);
	}
	const result = spawnSync(program, [spec], {input: Buffer.concat(input), maxBuffer: 1 << 30});
	note(result.stderr.toString());
	if (result.status !== 0) {
		ok(false, `${program} ends well (status ${result.status}, signal ${result.signal})`);
		console.log(`1..${count}`);
		process.exit(1);
	}
	const answers = [];
	for (let at = 0; at < result.stdout.length;) {
		const n = result.stdout.readUInt32LE(at);
		const ids = new Array(n);
		for (let i = 0; i < n; i++)
			ids[i] = result.stdout.readUInt32LE(at + 4 + 4 * i);
		answers.push(ids);
		at += 4 + 4 * n;
	}
	return answers;
}

const same = (a, b) => a.length === b.length && a.every((id, i) => id === b[i]);

/** Compare in order; complain about the first few differences. */
function allSame(answers, expected, texts) {
	let wrong = 0;
	expected.forEach((ids, i) => {
		if (same(answers[i], ids))
			return;
		if (wrong++ < 3)
			note(`${JSON.stringify(texts[i]).slice(0, 300)}\n ours   ${answers[i].slice(0, 60)}\n theirs ${ids.slice(0, 60)}`);
	});
	return wrong;
}

function writeSpec(name, template) {
	const path = join(workDir, name);
	writeFileSync(path, exportSpec(json, {pre: 'llama-bpe', template}));
	return path;
}

const spec = writeSpec('llama30.spec', tokenizerConfig.chat_template);
const spec31 = writeSpec('llama31.spec', '<|start_header_id|> Cutting Knowledge Date');

function testTexts() {
	const texts = makeTexts(SEED, N_TEXTS);
	const answers = ours(spec, texts.map(({text}) => ['t', text]));
	for (const kind of new Set(texts.map((t) => t.kind))) {
		const which = texts.map((t, i) => [t, i]).filter(([t]) => t.kind === kind);
		const wrong = allSame(which.map(([, i]) => answers[i]), which.map(([t]) => theirs(t.text)), which.map(([t]) => t.text));
		ok(wrong === 0, `${which.length} texts of ${kind} give the package's tokens (${wrong} differ)`);
	}
}

/** Every ordinary token's text that JavaScript can hold, and random rows of them. */
function testVocabulary() {
	const all = Array.from({length: FIRST_SPECIAL}, (_, id) => tokenizer.model.vocab[id])
		.map((token) => Buffer.from(Array.from(token, (c) => byteOf.get(c))))
		.map((bytes) => bytes.toString('utf8')).filter((text) => !text.includes('\ufffd') && !/[\u0085\ufeff\u017f]/.test(text));
	const r = new Random(SEED + 5);
	const rows = Array.from({length: N_EXTRA}, () => r.many(1, 20, () => r.pick(all)));
	for (const [texts, what] of [[all, 'texts of single tokens'], [rows, 'random rows of tokens']]) {
		const wrong = allSame(ours(spec, texts.map((t) => ['t', t])), texts.map((t) => theirs(t)), texts);
		ok(wrong === 0, `${texts.length} ${what} give the package's tokens (${wrong} differ)`);
	}
}

function testDiffering() {
	const regex = json.pre_tokenizer.pretokenizers[0].pattern.Regex
		.replace("(?i:'s|", "(?:'[sS\u017f]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|")
		.replaceAll('\\s', '\\p{White_Space}').replaceAll('\\S', '\\P{White_Space}');
	const pretokenizers = structuredClone(json.pre_tokenizer);
	pretokenizers.pretokenizers[0].pattern.Regex = regex;
	const unicode = fromPreTrained({tokenizerJSON: {pre_tokenizer: pretokenizers}});
	const texts = makeDifferingTexts(SEED + 1, N_EXTRA);
	const wrong = allSame(ours(spec, texts.map((t) => ['t', t])), texts.map((t) => theirs(t, unicode)), texts);
	ok(wrong === 0, `${N_EXTRA} texts with U+0085, U+FEFF and U+017F give its tokens under Unicode's classes (${wrong} differ)`);
}

function testSpecials() {
	const specials = json.added_tokens.map((t) => t.content);
	const texts = [...specials, ...makeSpecialTexts(SEED + 2, N_EXTRA, specials)];
	const wrong = allSame(ours(spec, texts.map((t) => ['s', t])), texts.map((t) => theirs(t)), texts);
	ok(wrong === 0, `${texts.length} texts with special tokens give its tokens when they are asked for (${wrong} differ)`);
	const leaks = ours(spec, texts.map((t) => ['t', t])).filter((ids) => ids.some((id) => id >= FIRST_SPECIAL)).length;
	ok(leaks === 0, `and none of them a special token when they are not (${leaks} do)`);
}

function testInvalid() {
	const texts = makeInvalidTexts(SEED + 3, N_EXTRA);
	const answers = ours(spec, texts.map(({left, bad, right}) =>
		['t', Buffer.concat([Buffer.from(left + ' '), bad, Buffer.from(' ' + right)])]));
	let wrong = 0;
	texts.forEach(({left, right}, i) => {
		const before = theirs(left);
		const after = theirs(' ' + right);
		if (!same(answers[i].slice(0, before.length), before) || !same(answers[i].slice(-after.length), after))
			wrong++;
	});
	ok(wrong === 0, `${N_EXTRA} texts with invalid UTF-8 come back from their tokens, neighbours as in the package (${wrong} differ)`);
}

/** Long runs: the package's tokens, and steps near-linear in the length. */
function testRuns() {
	const units = {letters: 'a', spaces: ' ', newlines: '\n', digits: '7', punctuation: '!', CJK: '中'};
	for (const [name, unit] of Object.entries(units)) {
		const run = (bytes) => unit.repeat(Math.floor(bytes / Buffer.byteLength(unit)));
		const [ids, few, many] = ours(spec, [['t', run(RUN_BYTES)], ['n', run(RUN_BYTES / 4)], ['n', run(RUN_BYTES)]]);
		const ratio = (many[0] + many[1] * 2 ** 32) / (few[0] + few[1] * 2 ** 32);
		ok(same(ids, theirs(run(RUN_BYTES))), `1 MB of ${name} gives the package's ${ids.length} tokens`);
		/* n log n takes 4.45 times the steps, n^2 16 times. */
		ok(ratio < 4.6, `and takes ${ratio.toFixed(2)} times the steps of 250 kB`);
	}
}

const header = (role) => `<|start_header_id|>${role}<|end_header_id|>\n\n`;
const dates = 'Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n';

function testChats() {
	const contents = makeTexts(SEED + 4, 300).map((t) => t.text.replaceAll('\0', ''));
	const chats = [];
	for (let i = 0; i + 3 <= contents.length; i += 3) {
		const chat = [{role: 'user', content: contents[i]}, {role: 'assistant', content: contents[i + 1]},
			{role: 'user', content: contents[i + 2]}];
		if (i % 2)
			chat[0].role = 'system';
		chats.push(chat);
	}
	const requests = chats.map((chat) => ['c', '1' + chat.map((m) => `${m.role}\t${m.content}\0`).join('')]);
	const expected30 = chats.map((chat) => tokenizer.apply_chat_template(chat, {tokenize: true, return_tensor: false}));
	const wrong30 = allSame(ours(spec, requests), expected30, chats);
	ok(wrong30 === 0, `${chats.length} chats of 3.0 give the tokens of the package's own template (${wrong30} differ)`);

	const expected31 = chats.map((chat) => {
		const system = chat[0].role === 'system' ? chat[0].content.trim() : '';
		const rest = chat[0].role === 'system' ? chat.slice(1) : chat;
		return theirs('<|begin_of_text|>' + header('system') + dates + system + '<|eot_id|>' +
			rest.map((m) => header(m.role) + m.content.trim() + '<|eot_id|>').join('') + header('assistant'));
	});
	const wrong31 = allSame(ours(spec31, requests), expected31, chats);
	ok(wrong31 === 0, `${chats.length} chats of 3.1 give the tokens of the rendered string (${wrong31} differ)`);
}

testTexts();
testVocabulary();
testDiffering();
testSpecials();
testInvalid();
testRuns();
testChats();
console.log(`1..${count}`);
process.exit(failures > 0 ? 1 : 0);
