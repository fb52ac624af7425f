import type { Encryptor } from '../crypto/encryption.js'

/** A place in the queue, as the ticket has it, in case Redis loses it. */
export interface Place {
  /** Of the queue. */
  epoch: string
  /** The time of the first request, by Redis's clock, ms. */
  place: number
  /** Until when it is kept, by Redis's clock, ms. */
  ends: number
}

/** Whose place it is: a ticket of another ToolJet, user or app cannot be decrypted. */
export interface TicketOwner {
  toolJet: string
  user: string
  app: string
}

const MAX_TICKET = 512

export class Tickets {
  readonly #encryptor: Encryptor

  constructor (encryptor: Encryptor) {
    this.#encryptor = encryptor
  }

  encrypt (owner: TicketOwner, { epoch, place, ends }: Place): string {
    return this.#encryptor.encrypt(boundTo(owner), `${epoch} ${place} ${ends}`).toString('base64url')
  }

  /** @returns nothing for a ticket of somebody else, or one that is damaged */
  decrypt (owner: TicketOwner, ticket: unknown): Place | undefined {
    if (typeof ticket !== 'string' || ticket.length > MAX_TICKET) return undefined
    const [epoch, place, ends] = this.#encryptor.decrypt(boundTo(owner), Buffer.from(ticket, 'base64url'))?.split(' ') ?? []
    return epoch === undefined ? undefined : { epoch, place: Number(place), ends: Number(ends) }
  }
}

function boundTo ({ toolJet, user, app }: TicketOwner): string {
  return `ticket\n${toolJet}\n${user}\n${app}`
}
