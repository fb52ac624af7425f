// `npm run build`: everything that the package ships, in dist/, or in the folder that is named.
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve, sep } from 'node:path'
import { pathToFileURL } from 'node:url'
import { buildClient } from './build-client.js'

process.chdir(join(import.meta.dirname, '..'))
const dist = resolve(process.argv[2] ?? 'dist')
rmSync(dist, { recursive: true, force: true })

const typescript = dirname(createRequire(import.meta.url).resolve('@typescript/native/package.json'))
for (const [project, folder] of [['plugin', dist], ['plugin/browser', join(dist, 'browser')]]) {
  execFileSync(process.execPath, [join(typescript, 'bin', 'tsc'), '-p', project, '--outDir', folder], { stdio: 'inherit' })
}
buildClient(join(dist, 'browser'))

// what its sources read from files, as strings: the package works in one file with a host, wherever that is
const isScript = (path) => /[/\\]scripts[/\\].*\.lua$/.test(path)
const scripts = readdirSync('plugin', { recursive: true }).filter(isScript).map((path) => [path.split(sep).join('/'), readFileSync(join('plugin', path), 'utf8')])
writeFileSync(join(dist, 'redis', 'lua.js'), `const scripts = ${JSON.stringify(Object.fromEntries(scripts), undefined, 1)}

export function lua (path) {
  return scripts[path]
}
`)
writeFileSync(join(dist, 'http', 'browser-module.js'), `const text = ${JSON.stringify(readFileSync(join(dist, 'browser', 'tooljet-embed.js'), 'utf8'))}

export function browserModule () {
  return text
}
`)

// the audit queries as files: for `redis-cli --eval`, and for `redis-cli -x FUNCTION LOAD`
const { LIBRARY, QUERIES } = await import(pathToFileURL(join(dist, 'audit', 'functions.js')).href)
writeFileSync(join(dist, 'audit', 'queries.lua'), QUERIES)
writeFileSync(join(dist, 'tooljet_embed.lua'), LIBRARY)
