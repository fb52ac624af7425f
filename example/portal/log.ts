const LEVELS: Record<number, string> = { 10: 'TRACE', 20: 'DEBUG', 30: 'INFO', 40: 'WARN', 50: 'ERROR', 60: 'FATAL' }

interface LogEvent {
  level: number
  time: number
  msg?: string
  err?: { message: string }
  req?: { method: string, url: string }
  res?: { statusCode: number }
  /** Of the plugin. */
  code?: string
  tooljetEmbedAudit?: Record<string, string>
}

/** A destination for pino: each event of the log as one line to read. */
export function readableLines (out: { write (text: string): unknown }): { write (json: string): void } {
  return { write: (json) => { out.write(`${lineOf(JSON.parse(json) as LogEvent)}\n`) } }
}

function lineOf ({ level, time, msg = '', err, req, res, code, tooljetEmbedAudit: event }: LogEvent): string {
  const what = err === undefined || msg.includes(err.message) ? msg : `${msg}: ${err.message.replaceAll('.: ', ': ')}`
  const details = [req?.method, req?.url, res?.statusCode, code, event?.['email'], event?.['app'], event?.['code']].filter(Boolean).join(' ')
  const line = `${clock(time)} ${LEVELS[level] ?? level} ${what}${details === '' ? '' : ` (${details})`}`
  return line.replace(/[\s\p{Cc}]+/gu, ' ') // whoever wrote parts of it: it stays one line, and text
}

function clock (ms: number): string {
  return new Date(ms).toTimeString().slice(0, 8)
}
