import { parse as parseDuration } from '@lukeed/ms'
import { Type, type TSchema } from '@sinclair/typebox'
import { ValueErrorType, type ValueError } from '@sinclair/typebox/value'
import { embedError } from '../errors.js'

const MAX_TIMER_MS = 2 ** 31 - 1

// `expected` is for error messages: "…, expected a whole number".
export const milliseconds = Type.Integer({ minimum: 1, maximum: MAX_TIMER_MS, expected: 'a whole number of milliseconds, 1 or more' })

/** Milliseconds, given as a number or as words like '1 minute'. @throws TOOLJET_EMBED_OPTIONS */
export function durationOf (name: string, value: number | string): number {
  const ms = typeof value === 'number' ? value : parseDuration(value)
  if (ms !== undefined && ms >= 1 && ms <= MAX_TIMER_MS) return Math.round(ms)
  throw optionError(name, 'milliseconds, or words like \'1 minute\'', describeValue(value, false))
}

/** The error for one option. @param value describes the wrong value; `undefined`: the option is missing */
export function optionError (name: string, expected: string, value?: string) {
  return embedError('TOOLJET_EMBED_OPTIONS', { detail: `option "${name}" ${value === undefined ? 'is missing' : `is ${value}`}, expected ${expected}` })
}

/** The error for one option that does not match its schema. */
export function wrongOption (error: ValueError) {
  const name = error.path.slice(1).replaceAll('/', '.')
  const schema = error.schema as TSchema & { expected?: string, secret?: boolean, properties?: object }
  if (error.type === ValueErrorType.ObjectAdditionalProperties) {
    const known = Object.keys(schema.properties ?? {}).join(', ')
    return embedError('TOOLJET_EMBED_OPTIONS', { detail: `unknown option "${name}", expected one of ${known}` })
  }
  const expected = schema.expected ?? 'another value'
  if (error.value === undefined) return optionError(name, expected)
  return optionError(name, expected, describeValue(error.value, schema.secret === true))
}

/** Describes a value for an error message, without secrets: the contents of objects, and of any string with `secret`. */
export function describeValue (value: unknown, secret: boolean): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'an object'
  if (typeof value === 'function') return 'a function'
  if (secret) return `a ${typeof value} (not shown)`
  return typeof value === 'string' ? JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value) : String(value)
}
