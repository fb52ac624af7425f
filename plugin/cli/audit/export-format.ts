import type { AuditEntry } from '../../audit/event.js'
import { toEcs } from './ecs.js'
import { eventLine } from './event-writer.js'
import { jsonLine } from '../text.js'

/** How events are written, and recognised in a file. */
export interface ExportFormat {
  line: (entry: AuditEntry) => string
  /** Start of every line. */
  lineStart: string
  /** @returns the id of a line's event; nothing when the line is not of this format */
  idOf: (line: unknown) => unknown
}

export const FORMATS: Record<'ndjson' | 'ecs', ExportFormat> = {
  ndjson: {
    line: eventLine,
    lineStart: '{"id":"',
    idOf: (line) => (line as { id?: unknown } | null)?.id,
  },
  ecs: {
    line: (entry) => jsonLine(toEcs(entry)),
    lineStart: '{"@timestamp":"',
    idOf: (line) => (line as { event?: { id?: unknown } } | null)?.event?.id,
  },
}
