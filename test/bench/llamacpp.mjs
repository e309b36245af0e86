// llama.cpp under measurement, by the npm package node-llama-cpp and its
// prebuilt libraries: the same commands as engine.c's.
//
// Usage: node llamacpp.mjs NODE_MODULES MODEL.gguf THREADS
//
// Commands it cannot measure are answered with "-".

import {createRequire} from "node:module";
import {createInterface} from "node:readline";
import {join} from "node:path";
import {pathToFileURL} from "node:url";

const [, , modules, path, threads] = process.argv;
const require = createRequire(join(modules, "x.js"));
const {getLlama} = await import(pathToFileURL(require.resolve("node-llama-cpp")).href);

const now = () => performance.now() / 1000;
const llama = await getLlama({
	gpu: false, build: "never", maxThreads: Number(threads), progressLogs: false, logLevel: "error"
});
let start = now();
const model = await llama.loadModel({modelPath: path, useMmap: false});
console.log(`load=${(now() - start).toFixed(3)}`);

let seed = 1;
function tokens(n)
{
	return Array.from({length: n}, () => {
		seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
		return (seed >>> 8) % 128000;
	});
}

// The context of a command is made before its time counts, as ours is.
async function withContext(sequences, size, work)
{
	const context = await model.createContext({
		sequences, contextSize: size, batchSize: 512, flashAttention: true,
		threads: {ideal: Number(threads), min: Number(threads)}
	});
	try { return await work(context); }
	finally { await context.dispose(); }
}

const greedy = {temperature: 0, yieldEogToken: true};

// Generate n tokens; calls begun at the first.
async function generate(sequence, prompt, n, begun)
{
	let made = 0;
	for await (const _ of sequence.evaluate(prompt, greedy))
	{
		if (++made === 1) begun();
		if (made === n) break;
	}
}

const SLOTS = 16;

// Let f work on 0 .. n - 1, each slot on one at a time.
async function inSlots(context, n, f)
{
	let next = 0;
	const sequences = Array.from({length: Math.min(SLOTS, n)}, () => context.getSequence());
	await Promise.all(sequences.map(async (sequence) => {
		while (next < n)
			await f(sequence, next++);
	}));
}

const commands = {
	prefill: (n) => withContext(1, n + 16, async (context) => {
		const sequence = context.getSequence();
		const prompt = tokens(n);
		const start = now();
		await generate(sequence, prompt, 1, () => {});
		return now() - start;
	}),
	decode: (s, p, n) => withContext(s, s > 1 ? (p + n + 8) : p + n + 8, async (context) => {
		let begun = 0;
		let start;
		await Promise.all(Array.from({length: s}, () =>
			generate(context.getSequence(), tokens(p), n, () => { if (++begun === s) start = now(); })));
		return now() - start;
	}),
	mixed: (s, n, p) => withContext(s + 1, Math.max(n, p) + 16, async (context) => {
		let begun = 0;
		let start;
		let extra;
		const last = context.getSequence();
		await Promise.all(Array.from({length: s}, () =>
			generate(context.getSequence(), tokens(8), n, () => {
				if (++begun < s) return;
				start = now();
				extra = generate(last, tokens(p), 1, () => {});
			})));
		await extra;
		return now() - start;
	}),
	// Its embedding context takes one text after the other.
	embed: async (n, low, high) => {
		const context = await model.createEmbeddingContext({
			contextSize: high + 16, batchSize: high + 16, threads: Number(threads)
		});
		const texts = Array.from({length: n}, () => tokens(low + tokens(1)[0] % (high - low + 1)));
		const start = now();
		for (const text of texts)
			await context.getEmbeddingFor(text);
		const seconds = now() - start;
		await context.dispose();
		return seconds;
	},
	// The instruction stays in each slot; a row is its text's tokens and the
	// choice of one more, which is less than the probabilities of whole labels.
	classify: (n, instruction, low, high) => withContext(SLOTS, instruction + high + 16, async (context) => {
		const prefix = tokens(instruction);
		const rows = Array.from({length: n}, () => tokens(low + tokens(1)[0] % (high - low + 1)));
		const start = now();
		await inSlots(context, n, async (sequence, i) => {
			if (sequence.nextTokenIndex > instruction)
				await sequence.eraseContextTokenRanges([{start: instruction, end: sequence.nextTokenIndex}]);
			const prompt = sequence.nextTokenIndex === instruction ? rows[i] : [...prefix, ...rows[i]];
			await generate(sequence, prompt, 1, () => {});
		});
		return now() - start;
	})
};

for await (const line of createInterface({input: process.stdin}))
{
	const [name, ...numbers] = line.trim().split(" ");
	const command = commands[name];
	console.log(command ? (await command(...numbers.map(Number))).toFixed(6) : "-");
}
process.exit(0);
