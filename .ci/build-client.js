// The browser module, in dist/browser. Also for where the plugin runs from its sources and nothing else is built.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { argv, pid } from 'node:process'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { buildSync } from 'esbuild'

const ROOT = join(import.meta.dirname, '..')
const MAX_GZIPPED = 5120
/** Properties that only the module itself uses: their names are shortened. */
const INTERNAL = /^(renewal|endsAt|loads|since|frame|appOrigin|show|add|drop|reveal|updateAttributes)$/

/** Other processes may be reading the file: it changes as a whole. */
export function buildClient (folder = join(ROOT, 'dist', 'browser')) {
  const { outputFiles: [{ text }] } = buildSync({
    absWorkingDir: ROOT,
    entryPoints: ['plugin/browser/index.ts'],
    tsconfig: 'plugin/browser/tsconfig.json',
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    charset: 'utf8',
    mangleProps: INTERNAL,
    write: false,
  })
  const contents = text.replace(/(?<=[`}])\n/g, '') // the lines of the style sheet
  // the plugin's route finds itself in what is served: plugin/http/client-module.ts
  const served = contents.replace('"/api/get-tooljet-url"', 'import.meta.resolve("./api/get-tooljet-url")')
  const { length } = gzipSync(served, { level: 9 })
  if (length >= MAX_GZIPPED) throw new Error(`the browser module has ${length} bytes when gzipped, it is to have less than ${MAX_GZIPPED}`)
  const file = join(folder, 'tooljet-embed.js')
  mkdirSync(folder, { recursive: true })
  writeFileSync(`${file}.${pid}`, contents)
  renameSync(`${file}.${pid}`, file)
  return { bytes: Buffer.byteLength(contents), gzipped: length }
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const { bytes, gzipped } = buildClient()
  console.log(`dist/browser/tooljet-embed.js: ${bytes} bytes, ${gzipped} gzipped`)
}
