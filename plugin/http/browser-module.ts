import { readFileSync } from 'node:fs'
import { embedError } from '../errors.js'

/**
 * The text of the page's module. The build puts a module in place of this one that holds it as a string, so that the
 * package reads no files.
 */
export function browserModule (): string {
  try {
    return readFileSync(new URL('../../dist/browser/tooljet-embed.js', import.meta.url), 'utf8')
  } catch (cause) {
    throw embedError('TOOLJET_EMBED_OPTIONS', { detail: 'the browser module is not there: "npm run build" makes it, and option client: false does without', cause })
  }
}
