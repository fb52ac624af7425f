import { errorBody, type Fault } from '../../example/tooljet/server.js'

/** ToolJet says no, in its own form. */
export function refusal (status: number, message: string | string[]): Fault & { reply: { status: number, body: object } } {
  return { reply: { status, body: errorBody(status, message) } }
}
