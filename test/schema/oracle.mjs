/*
 * JSON Schema's compiler against ajv, and patterns against JavaScript's own.
 *
 *   node oracle.mjs NODE_MODULES SCHEMA_TEXTS CASES...
 *
 * 1. ajv agrees with the verdicts on values in the files of cases, and calls every
 *    random text valid that a schema's grammar has.
 * 2. For random schemas of one kind each, and every value of a small set, the
 *    grammar has exactly the values that ajv calls valid.
 */
import {spawnSync} from 'node:child_process';
import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';

const N_SAMPLES = 60;
const N_RANDOM = 150;
const SEED = 20261123;

const [modules, program, ...casesPaths] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const Ajv = require('ajv/dist/2020').default;
const addFormats = require('ajv-formats').default;

let count = 0;

function ok(passed, what) {
	count++;
	console.log(`${passed ? '' : 'not '}ok ${count} - ${what}`);
}

function note(text) {
	console.log(`# ${text.slice(0, 1000)}`);
}

/** What the program answers to lines of text. */
function ask(lines) {
	const result = spawnSync(program, [String(N_SAMPLES)], {input: lines.join('\n'), maxBuffer: 1 << 30});
	return result.stdout.toString().trim().split('\n').map((line) => JSON.parse(line));
}

function validator(schema) {
	const ajv = new Ajv({strict: false, validateFormats: true});
	addFormats(ajv);
	return ajv.compile(schema);
}

/** A value in the layout of the answers. */
function layout(value) {
	if (Array.isArray(value))
		return `[${value.map(layout).join(', ')}]`;
	if (value !== null && typeof value === 'object')
		return `{${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${layout(v)}`).join(', ')}}`;
	return JSON.stringify(value);
}

/** Why a text is no valid answer, or undefined. */
function problem(validate, text) {
	let value;
	try {
		value = JSON.parse(text);
	} catch (error) {
		return error.message;
	}
	if (text.includes('\\u0000'))
		return 'it has U+0000';
	return validate(value) ? undefined : JSON.stringify(validate.errors);
}

/** The lines go to the program as they are: JavaScript would round their numbers. */
function checkCases(lines) {
	const cases = lines.map((line) => JSON.parse(line));
	const sampled = ask(lines);
	let samples = 0;
	for (const [i, {name, schema, valid, invalid}] of cases.entries()) {
		const validate = validator(schema);
		const misjudged = [...valid.filter((v) => !validate(v)), ...invalid.filter((v) => validate(v))];
		for (const value of misjudged)
			note(`${name}: ajv disagrees about ${JSON.stringify(value)}`);
		ok(misjudged.length === 0, `${name}: ajv agrees with the verdicts on values`);

		const texts = Array.isArray(sampled[i]) ? sampled[i] : [];
		const wrong = texts.map((text) => [text, problem(validate, text)]).filter(([, why]) => why !== undefined);
		samples += texts.length;
		for (const [text, why] of wrong.slice(0, 3))
			note(`${name}: ${text}: ${why}`);
		ok(texts.length === N_SAMPLES && wrong.length === 0, `${name}: all texts of the grammar are valid`);
	}
	ok(sampled.length === cases.length, `${cases.length} schemas, ${samples} texts`);
}

/* mulberry32 */
let state = SEED;
function random(n) {
	state = (state + 0x6D2B79F5) | 0;
	let t = Math.imul(state ^ (state >>> 15), 1 | state);
	t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
	return ((t ^ (t >>> 14)) >>> 0) % n;
}
const pick = (array) => array[random(array.length)];

/** Every array of up to length elements. */
function sequences(elements, length) {
	let last = [[]];
	const all = [[]];
	for (let i = 0; i < length; i++) {
		last = last.flatMap((sequence) => elements.map((element) => [...sequence, element]));
		all.push(...last);
	}
	return all;
}

function randomPattern(depth) {
	const atom = () => depth > 0 && random(3) === 0 ? `${pick(['(', '(?:'])}${randomPattern(depth - 1)})` :
		pick(['a', 'b', '1', '-', '.', '\\d', '\\w', '\\D', '[ab]', '[^a]', '[a1-]', '[^\\d]', '\\S', 'ab']);
	const term = () => atom() + pick(['', '', '', '*', '+', '?', '{2}', '{1,2}', '{2,}', '*?']);
	const sequence = () => Array.from({length: random(4)}, term).join('');
	return Array.from({length: 1 + random(2)}, sequence).join('|');
}

function anchored(pattern) {
	return pick(['', '^']) + (pattern.includes('|') ? `(?:${pattern})` : pattern) + pick(['', '$']);
}

const bound = (places) => (random(2401) - 1200) / 10 ** random(places + 1);

function randomRange(type, places) {
	const [low, high] = [bound(places), bound(places)].sort((a, b) => a - b);
	const schema = {type};
	if (random(5) > 0)
		schema[pick(['minimum', 'exclusiveMinimum'])] = low;
	if (random(5) > 0)
		schema[pick(['maximum', 'exclusiveMaximum'])] = high;
	return schema;
}

/** Numbers with few places near the bounds of a schema, and near powers of ten. */
function numbersNear(schema, places) {
	const unit = 10 ** places;
	const centres = [0, 1, 9.5, 99, 100, 1000, -1, -10, -99.5, ...Object.values(schema).filter(Number.isFinite)];
	const near = centres.flatMap((c) => [-11, -10, -9, -2, -1, 0, 1, 2, 9, 10, 11].map((d) => Math.round(c * unit + d) / unit));
	return [...new Set(near.map((n) => n === 0 ? 0 : n))];
}

const NAMES = ['a', 'b', 'ab', 'c', 'a"'];

function randomObject() {
	const declared = NAMES.filter(() => random(4) > 0);
	return {
		type: 'object',
		properties: Object.fromEntries(declared.map((name) => [name, {const: 1}])),
		required: declared.filter(() => random(3) === 0),
		additionalProperties: pick([false, {const: 2}, {enum: [1, 2]}]),
	};
}

/** Objects with each name left out, 1 or 2, in the order declared, then others. */
function objectsFor(schema) {
	const order = [...Object.keys(schema.properties), ...NAMES.filter((name) => !(name in schema.properties))];
	return Array.from({length: 3 ** order.length}, (_, i) => Object.fromEntries(
		order.map((name, j) => [name, Math.floor(i / 3 ** j) % 3]).filter(([, value]) => value > 0)));
}

function randomArray() {
	const item = () => pick([{const: 0}, {const: 1}, {enum: [0, 1]}]);
	const schema = {type: 'array', items: pick([false, item(), item()])};
	if (random(3) > 0)
		schema.prefixItems = Array.from({length: 1 + random(3)}, item);
	const [least, most] = [random(4), random(5)].sort();
	if (random(2))
		schema.minItems = least;
	if (random(2))
		schema.maxItems = most;
	return schema;
}

const TEXTS = sequences(['a', 'b', '1', '-'], 4).map((letters) => letters.join(''));
const ARRAYS = sequences([0, 1], 5);

const KINDS = {
	'patterns': () => [{type: 'string', pattern: anchored(randomPattern(2))}, TEXTS],
	'patterns of a length': () =>
		[{type: 'string', pattern: anchored(randomPattern(1)), minLength: random(3), maxLength: 2 + random(2)}, TEXTS],
	'two patterns at once': () =>
		[{type: 'string', allOf: [{pattern: anchored(randomPattern(1))}, {pattern: anchored(randomPattern(1))}]}, TEXTS],
	'ranges of integers': () => {
		const schema = randomRange('integer', 1);
		return [schema, numbersNear(schema, 0)];
	},
	'ranges of numbers': () => {
		const schema = randomRange('number', 2);
		return [schema, numbersNear(schema, 2)];
	},
	'members': () => {
		const schema = randomObject();
		return [schema, objectsFor(schema)];
	},
	'items': () => [randomArray(), ARRAYS],
	'anyOf with its surroundings': () => {
		const schema = {...randomRange('integer', 0), anyOf: [randomRange('integer', 0), randomRange('number', 1)]};
		return [schema, numbersNear({...schema, ...schema.anyOf[0]}, 0)];
	},
};

/** A schema that the compiler refuses must be one that no value satisfies. */
function checkKind(kind, make) {
	const drawn = Array.from({length: N_RANDOM}, make);
	const answers = ask(drawn.map(([schema, values]) => JSON.stringify({schema, texts: values.map(layout)})));
	let compared = 0;
	let differing = 0;
	let refused = 0;
	for (const [i, [schema, values]] of drawn.entries()) {
		const validate = validator(schema);
		const isRefused = typeof answers[i] === 'string';
		refused += isRefused;
		if (isRefused && !/nothing can satisfy it|is greater than/.test(answers[i])) {
			note(`${kind}: ${JSON.stringify(schema)}: ${answers[i]}`);
			differing++;
		}
		for (const [j, value] of values.entries()) {
			const theirs = validate(value);
			compared++;
			if (theirs === (!isRefused && answers[i][j]))
				continue;
			if (differing++ < 5)
				note(`${kind}: ${JSON.stringify(schema)}: ajv says ${theirs} of ${layout(value)}`);
		}
	}
	ok(differing === 0, `${kind}: ${drawn.length} random schemas (${refused} refused), ${compared} values`);
}

checkCases(casesPaths.flatMap((path) => readFileSync(path, 'utf8').trim().split('\n')));
for (const [kind, make] of Object.entries(KINDS))
	checkKind(kind, make);
console.log(`1..${count}`);
