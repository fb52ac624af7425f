import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'

const CIPHER = 'aes-256-gcm'
const NONCE_BYTES = 12
const TAG_BYTES = 16

/**
 * Encrypts what goes to Redis with AES-256-GCM. What a value is bound to (such as its Redis key) is associated data: a
 * value that was copied to another place cannot be decrypted there. A ciphertext is nonce, encrypted text and tag.
 */
export class Encryptor {
  readonly #keys: readonly Buffer[]

  /** @param keys of 32 bytes; the first encrypts, all decrypt */
  constructor (keys: readonly Buffer[]) {
    this.#keys = keys
  }

  encrypt (boundTo: string, plaintext: string): Buffer {
    const nonce = randomBytes(NONCE_BYTES)
    const cipher = createCipheriv(CIPHER, this.#keys[0]!, nonce).setAAD(Buffer.from(boundTo))
    return Buffer.concat([nonce, cipher.update(plaintext, 'utf8'), cipher.final(), cipher.getAuthTag()])
  }

  /** @returns `undefined` when no key decrypts it: changed, copied from another place, or encrypted with an unknown key */
  decrypt (boundTo: string, ciphertext: Buffer): string | undefined {
    if (ciphertext.length < NONCE_BYTES + TAG_BYTES) return undefined
    const nonce = ciphertext.subarray(0, NONCE_BYTES)
    const encrypted = ciphertext.subarray(NONCE_BYTES, -TAG_BYTES)
    const tag = ciphertext.subarray(-TAG_BYTES)
    for (const key of this.#keys) {
      const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES }).setAAD(Buffer.from(boundTo)).setAuthTag(tag)
      try {
        return decipher.update(encrypted, undefined, 'utf8') + decipher.final('utf8')
      } catch {
        // another key may have encrypted it
      }
    }
    return undefined
  }
}
