import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The repository. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** Text of a file of the repository. */
export function file (name: string): string {
  return readFileSync(join(ROOT, name), 'utf8')
}

/** README and docs, whose every block is checked. */
export const DOCS = ['README.md', ...readdirSync(join(ROOT, 'docs')).filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)]

/** A fenced block. */
export interface Block {
  doc: string
  /** File and line, for people. */
  at: string
  language: string
  code: string
}

const FENCED = /^```(.*)\n([^]*?)^```$/gm

export function blocksOf (doc: string): Block[] {
  const text = file(doc)
  const blocks = [...text.matchAll(FENCED)].map(({ index, 1: language, 2: code }) => (
    { doc, at: `${doc}:${text.slice(0, index).split('\n').length}`, language: language!, code: code! }
  ))
  const fences = text.split('\n').filter((line) => line.trimStart().startsWith('```')).length
  if (fences !== 2 * blocks.length) throw new Error(`${doc}: a fence is indented, or has no end`)
  return blocks
}

/** A page without its code. */
function proseOf (doc: string): string {
  return file(doc).replace(FENCED, '').replace(/`[^`\n]*`/g, (code) => code.replace(/[[\]()]/g, ''))
}

/** Targets of all links and pictures. */
export function linksOf (doc: string): string[] {
  return Array.from(proseOf(doc).matchAll(/\]\(([^)\s]+)\)/g), ([, target]) => target!)
}

/** Anchors of all headings, as GitHub makes them. */
export function anchorsOf (doc: string): string[] {
  return Array.from(proseOf(doc).matchAll(/^#{1,6} (.+)$/gm), ([, heading]) => (
    heading!.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, '').replaceAll(' ', '-')
  ))
}

/** The part of a page below one heading, as far as the next of its kind. */
export function sectionOf (doc: string, heading: string): string {
  const [, section] = `\n${file(doc)}`.split(`\n${heading}\n`)
  if (section === undefined) throw new Error(`${doc} has no "${heading}"`)
  const [marks] = heading.split(' ') as [string]
  return section.split(`\n${marks} `)[0]!
}

/** Cells of a table's rows, its head left out. */
export function rowsOf (section: string): string[][] {
  const rows = section.split('\n').filter((line) => line.startsWith('|')).map((line) => line.slice(1, -1).split(/(?<!\\)\|/).map((cell) => cell.trim()))
  return rows.slice(rows.findIndex(([first]) => /^-+:?$/.test(first!)) + 1)
}
