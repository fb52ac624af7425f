import { readFileSync } from 'node:fs'

/**
 * The text of a Lua file below plugin/. The build puts a module in place of this one that holds all of them as strings,
 * so that the package reads no files.
 */
export function lua (path: string): string {
  return readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')
}
