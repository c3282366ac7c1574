// @ts-check
/** What the widget says in Spanish. */

/** @type {typeof import("./strings.js").english} */
export default {
  lang: "es",
  open: "Abrir el chat",
  close: "Cerrar el chat",
  unread: "mensaje sin leer",
  unreads: "mensajes sin leer",
  title: "Chat",
  log: "Conversación",
  message: "Mensaje",
  send: "Enviar",
  empty: "Saluda para empezar la conversación.",
  you: "Tú",
  bot: "Respuesta",
  waiting: "Sin conexión. Lo que escribas se enviará en cuanto vuelva.",
  replaced: "Este chat sigue en otra ventana.",
  back: "Conexión recuperada.",
  sending: "Enviando",
  sent: "Enviado",
  failed: "No enviado",
  retry: "Reintentar",
  undo: "Deshacer mi última respuesta",
  undone: "Deshecho",
  typing: "Escribiendo",
  image: "Imagen",
  broken: "No se pudo cargar la imagen.",
  newTab: "pestaña nueva",
  lost: "Faltan algunos mensajes anteriores.",
};
