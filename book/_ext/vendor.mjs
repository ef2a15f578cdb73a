// Copies what the website loads from node_modules into book/_static/vendor (ignored by git), so that no page asks
// another host for anything: MathJax with its fonts, and onnxruntime-web with its WebAssembly compressed.
// Usage: npm ci && node book/_ext/vendor.mjs. Does nothing where the folder already holds these versions.
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const modules = join(root, 'node_modules');
const vendor = join(root, 'book/_static/vendor');

const COPIES = {
  mathjax: {
    from: 'mathjax/es5',
    files: [
      'tex-mml-chtml.js',            // TeX in, HTML and hidden MathML out
      'input/tex/extensions',        // \boldsymbol and the like load on first use
      'output/chtml/fonts/woff-v2',
      'a11y', 'ui',                  // the accessibility choices of the formula menu
      'sre/mathmaps/base.json', 'sre/mathmaps/en.json',
    ],
  },
  ort: {
    from: 'onnxruntime-web/dist',
    files: ['ort.wasm.min.mjs', 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm'],
  },
};

const versions = Object.values(COPIES).map(({ from }) => {
  const name = from.split('/')[0], manifest = join(modules, name, 'package.json');
  if (!existsSync(manifest)) { console.error(`${name} is not installed: run \`npm ci\` first`); process.exit(1); }
  return `${name} ${JSON.parse(readFileSync(manifest)).version}`;
});
const script = createHash('sha256').update(readFileSync(fileURLToPath(import.meta.url))).digest('hex').slice(0, 16);
const stamp = `${versions.join('\n')}\ncopied by vendor.mjs ${script}\n`;
const stampFile = join(vendor, 'versions.txt');
if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) process.exit(0);

rmSync(vendor, { recursive: true, force: true });
for (const [name, { from, files }] of Object.entries(COPIES)) {
  for (const file of files) {
    const source = join(modules, from, file), target = join(vendor, name, file);
    mkdirSync(dirname(target), { recursive: true });
    // Compressed here and undone in the page: 3.7 MB on the wire instead of 14, whatever the host does.
    if (file.endsWith('.wasm')) writeFileSync(`${target}.gz`, gzipSync(readFileSync(source), { level: 9 }));
    else cpSync(source, target, { recursive: statSync(source).isDirectory() });
  }
}
writeFileSync(stampFile, stamp);                     // last: a copy that was cut short is made again
console.log(`book/_static/vendor: ${versions.join(', ')}`);
