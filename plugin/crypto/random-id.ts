import { randomBytes } from 'node:crypto'

/** Says nothing of what it names. @returns base64url, four characters for three bytes */
export function randomId (bytes = 12): string {
  return randomBytes(bytes).toString('base64url')
}
