// A real llama.cpp (node-llama-cpp's prebuilt one) continues prompts greedily.
// node continuing.mjs FOLDER_WITH_node_modules MODEL.gguf NUM_TOKENS < prompts as a JSON list
import fs from "node:fs";
import path from "node:path";
import {pathToFileURL} from "node:url";

const [folder, modelPath, numTokens] = process.argv.slice(2);
const entry = path.join(folder, "node_modules", "node-llama-cpp", "dist", "index.js");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(entry).href);
const llama = await getLlama({
    gpu: false, build: "never", skipDownload: true, logLevel: LlamaLogLevel.error
});
const model = await llama.loadModel({modelPath});
const answers = [];
for (const prompt of JSON.parse(fs.readFileSync(0, "utf8"))) {
    // More threads than free cores spin, and take minutes for what takes milliseconds.
    const context = await model.createContext({contextSize: 512, threads: 1});
    const tokens = model.tokenize(prompt);
    const found = [];
    for await (const token of context.getSequence().evaluate(tokens, {temperature: 0})) {
        found.push(token);
        if (found.length >= Number(numTokens)) break;
    }
    answers.push({tokens, found, text: model.detokenize(tokens)});
    await context.dispose();
}
console.log(JSON.stringify(answers));
process.exit(0);
