/*
 * Are texts valid for their schemas?  Asks ajv, a validator that shares no code
 * with ours.
 *
 *   node validate.mjs NODE_MODULES < LINES
 *
 * Each line is {"name", "schema", "text"}.  Prints what is wrong, one line
 * each, and at the end how many texts were looked at.
 */
import {createRequire} from 'node:module';
import {createInterface} from 'node:readline';

const require = createRequire(process.argv[2] + '/');
const Ajv = require('ajv/dist/2020').default;
const addFormats = require('ajv-formats').default;
const compiled = new Map();

function validatorOf(schema) {
	const key = JSON.stringify(schema);
	if (!compiled.has(key)) {
		const ajv = new Ajv({strict: false, validateFormats: true});
		addFormats(ajv);
		compiled.set(key, ajv.compile(schema));
	}
	return compiled.get(key);
}

function whatIsWrong({schema, text}) {
	let value;
	try {
		value = JSON.parse(text);
	} catch (error) {
		return `no JSON: ${error.message}`;
	}
	const validate = validatorOf(schema);
	return validate(value) ? null : JSON.stringify(validate.errors[0]);
}

let n = 0;
for await (const line of createInterface({input: process.stdin, crlfDelay: Infinity})) {
	const one = JSON.parse(line);
	const wrong = whatIsWrong(one);
	n++;
	if (wrong !== null)
		console.log(`${one.name}: ${wrong}: ${one.text}`);
}
console.log(`${n} looked at`);
