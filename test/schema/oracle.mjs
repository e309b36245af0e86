// Ask ajv what it thinks of the schemas in cases.jsonl: of the values that are
// called valid and invalid there, and of random texts of each schema's grammar.
// Prints TAP.
//
//   node oracle.mjs NODE_MODULES SAMPLE_SCHEMAS CASES
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [modules, program, casesPath] = process.argv.slice(2);
const require = createRequire(modules + "/");
const Ajv = require("ajv/dist/2020").default;
const addFormats = require("ajv-formats").default;

const SAMPLES = 60;

const text = readFileSync(casesPath, "utf8");
const cases = text.trim().split("\n").map((line) => JSON.parse(line));
const sampled = execFileSync(program, [String(SAMPLES)], { input: text, maxBuffer: 1 << 30 })
  .toString().trim().split("\n").map((line) => JSON.parse(line));

let count = 0;
let samples = 0;
function ok(passed, what) {
  count += 1;
  console.log(`${passed ? "ok" : "not ok"} ${count} - ${what}`);
}

// Why a text is no valid answer, or undefined.
function wrong(validate, answer) {
  let value;
  try {
    value = JSON.parse(answer);
  } catch (error) {
    return error.message;
  }
  if (answer.includes("\\u0000")) return "it has U+0000";
  if (!validate(value)) return JSON.stringify(validate.errors);
  return undefined;
}

for (const [i, { name, schema, valid, invalid }] of cases.entries()) {
  const ajv = new Ajv({ strict: false, validateFormats: true });
  addFormats(ajv);
  const validate = ajv.compile(schema);
  const misjudged = [...valid.filter((v) => !validate(v)), ...invalid.filter((v) => validate(v))];
  for (const value of misjudged) console.log(`# ${name}: ajv disagrees about ${JSON.stringify(value)}`);
  ok(misjudged.length === 0, `${name}: ajv agrees with the values' verdicts`);

  const problems = [];
  if (!Array.isArray(sampled[i])) problems.push(sampled[i]);
  else
    for (const answer of sampled[i]) {
      const problem = wrong(validate, answer);
      if (problem !== undefined) problems.push(`${answer}: ${problem}`);
      samples += 1;
    }
  for (const problem of problems.slice(0, 3)) console.log(`# ${name}: ${problem}`);
  ok(problems.length === 0, `${name}: all texts of the grammar are valid`);
}
ok(sampled.length === cases.length, `${cases.length} schemas, ${samples} texts`);
console.log(`1..${count}`);
