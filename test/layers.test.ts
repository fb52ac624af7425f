import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path/posix'
import { fileURLToPath } from 'node:url'
import { test } from 'tap'
import ts from 'typescript'

/* Who may import whom, type imports included: a folder of plugin/ those of its own floor and below, and nobody in a circle. */

const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** Of plugin/, the ground first. `browser/` is a house of its own. */
const FLOORS = [
  ['durations.ts', 'memoized.ts', 'timers.ts', 'closers.ts', 'errors.ts', 'observability', 'crypto'],
  ['redis'],
  ['access'],
  ['audit'],
  ['config', 'tooljet'],
  ['cache'],
  ['lookup.ts', 'embed.ts', 'forget.ts', 'warm.ts'],
  ['compose.ts', 'http'],
  ['plugin.ts'],
  ['index.ts'],
  ['cli'],
]

const files = ['plugin', 'bench', 'example', 'test'].flatMap((folder) => (
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .map((path) => `${folder}/${path.replaceAll('\\', '/')}`)
    .filter((path) => /\.tsx?$/.test(path) && !/\/(?:node_modules|dist|hosts\/tools)\/|^test\/package\/hosts\//.test(path))
))

const imports = new Map(files.map((path) => {
  const { importedFiles } = ts.preProcessFile(readFileSync(join(ROOT, path), 'utf8'), true, true)
  const named = importedFiles.map(({ fileName }) => join(dirname(path), fileName)).flatMap((name) => [name.replace(/\.js$/, '.ts'), name.replace(/\.js$/, '.tsx')])
  return [path, named.filter((name) => files.includes(name))]
}))

/** Of files that import each other: the way around, from the first to itself. */
function circles (): string[][] {
  const found: string[][] = []
  const done = new Set<string>()
  const visit = (path: string, way: string[]): void => {
    const start = way.indexOf(path)
    if (start >= 0) found.push([...way.slice(start), path])
    if (start >= 0 || done.has(path)) return
    for (const other of imports.get(path)!) visit(other, [...way, path])
    done.add(path)
  }
  for (const path of files) visit(path, [])
  return found
}

test('no file imports itself by way of others', async (t) => {
  t.ok(files.length > 300, `${files.length} files`)
  t.same(circles(), [])
})

test('no import of the plugin runs up', async (t) => {
  const partOf = (path: string): string => path.split('/')[1]!
  const floorOf = (path: string): number => FLOORS.findIndex((floor) => floor.includes(partOf(path)))
  const house = files.filter((path) => path.startsWith('plugin/') && !path.startsWith('plugin/browser/'))
  for (const path of house) {
    t.ok(floorOf(path) >= 0, `${path} has a floor`)
    const up = imports.get(path)!.filter((other) => !house.includes(other) || floorOf(other) > floorOf(path))
    t.same(up, [], path)
  }
  const ofBrowser = files.filter((path) => path.startsWith('plugin/browser/'))
  for (const path of ofBrowser) t.same(imports.get(path)!.filter((other) => !ofBrowser.includes(other)), [], path)
})

test('CONTRIBUTING.md names files that there are, and its picture folders and imports that there are', async (t) => {
  const text = readFileSync(join(ROOT, 'CONTRIBUTING.md'), 'utf8')
  for (const [, path] of text.matchAll(/`((?:plugin|test|example|docs)\/[\w./-]+)`/g)) t.ok(existsSync(join(ROOT, path!)), path!)
  const [, picture] = /```mermaid\nflowchart TD\n([^]*?)```/.exec(text)!
  const labels = new Map<string, string>()
  const shown = new Set<string>()
  for (const line of picture!.trimEnd().split('\n')) {
    const [match, from, fromLabel, to, toLabel] = /^ {2}(\w+)(?:\[([\w.]+)\])? --> (\w+)(?:\[([\w.]+)\])?$/.exec(line) ?? []
    t.ok(match, line)
    if (fromLabel !== undefined) labels.set(from!, fromLabel)
    if (toLabel !== undefined) labels.set(to!, toLabel)
    const [above, below] = [from!, to!].map((name) => `plugin/${labels.get(name) ?? name}`) as [string, string]
    for (const name of [above, below]) shown.add(name.slice('plugin/'.length))
    const isIn = (path: string, part: string): boolean => path === part || path.startsWith(`${part}/`)
    t.ok(files.some((path) => isIn(path, above) && imports.get(path)!.some((other) => isIn(other, below))), line)
  }
  const [ground, ...floors] = FLOORS
  t.same([...shown].sort(), [...floors.flat(), ...ground!.filter((part) => !part.endsWith('.ts'))].sort())
})
