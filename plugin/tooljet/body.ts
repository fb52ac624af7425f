import { promisify } from 'node:util'
import { brotliDecompress, gunzip, inflate, inflateRaw } from 'node:zlib'
import { embedError } from '../errors.js'
import type { Reply } from './replies.js'

/** Reads a stream up to `maxBytes`. @param tooLong called when there is more; throws by default, else what was read is returned */
export async function readBytes (stream: AsyncIterable<Buffer>, maxBytes: number, tooLong: () => void = () => { throw longerThan(maxBytes) }): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of stream) {
    bytes += chunk.length
    chunks.push(chunk)
    if (bytes <= maxBytes) continue
    tooLong()
    break // which destroys the stream, and its connection
  }
  return Buffer.concat(chunks)
}

const DECODERS: Record<string, (bytes: Buffer, maxOutputLength: number) => Promise<Buffer>> = {
  gzip: (bytes, maxOutputLength) => promisify(gunzip)(bytes, { maxOutputLength }),
  br: (bytes, maxOutputLength) => promisify(brotliDecompress)(bytes, { maxOutputLength }),
  // with zlib's header, as the standard has it, or without
  deflate: (bytes, maxOutputLength) => ((bytes[0]! & 0x0f) === 8 ? promisify(inflate) : promisify(inflateRaw))(bytes, { maxOutputLength }),
}

/**
 * A reply's text: decompressed (gateways compress unasked), in its charset, and without a byte order mark. Some gateways
 * decompress and keep the header, or compress and drop it: then the first bytes decide.
 * @throws TOOLJET_EMBED_BAD_REPLY when it is not what its headers say, or longer than the bound
 */
export async function textOf (bytes: Buffer, headers: Reply['headers'], maxBytes: number): Promise<string> {
  let plain = bytes
  for (const encoding of encodingsOf(headers, bytes).reverse()) {
    plain = await DECODERS[encoding]!(plain, maxBytes).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ERR_BUFFER_TOO_LARGE' && looksLikeJson(plain)) return plain
      throw wrongEncoding(error, encoding, maxBytes)
    })
  }
  const [, charset] = /;\s*charset="?([^\s";]+)/i.exec(String(headers['content-type'] ?? '')) ?? []
  return decoded(plain, charset)
}

function encodingsOf (headers: Reply['headers'], bytes: Buffer): string[] {
  if (bytes.length === 0) return []
  const named = String(headers['content-encoding'] ?? '').toLowerCase().split(',').map((encoding) => encoding.trim().replace(/^x-/, '')).filter((encoding) => Object.hasOwn(DECODERS, encoding))
  return named.length === 0 && bytes.subarray(0, 2).equals(GZIP) ? ['gzip'] : named
}

/** The first bytes of gzip; no text begins with them. */
const GZIP = Buffer.from([0x1f, 0x8b])

function looksLikeJson (bytes: Buffer): boolean {
  return /^\s*\{/.test(bytes.toString('latin1', 0, 100))
}

function decoded (bytes: Buffer, charset: string | undefined): string {
  try {
    return new TextDecoder(charset).decode(bytes)
  } catch {
    return new TextDecoder().decode(bytes) // an unknown charset
  }
}

function wrongEncoding ({ code }: NodeJS.ErrnoException, encoding: string, maxBytes: number) {
  if (code === 'ERR_BUFFER_TOO_LARGE') return longerThan(maxBytes)
  return embedError('TOOLJET_EMBED_BAD_REPLY', { remedy: `its body is not ${encoding}, as its Content-Encoding says` })
}

function longerThan (bytes: number) {
  return embedError('TOOLJET_EMBED_BAD_REPLY', { remedy: `it is longer than ${bytes} bytes` })
}
