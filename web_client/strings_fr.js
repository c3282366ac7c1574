// @ts-check
/** What the widget says in French. */

/** @type {typeof import("./strings.js").english} */
export default {
  lang: "fr",
  open: "Ouvrir le chat",
  close: "Fermer le chat",
  unread: "message non lu",
  unreads: "messages non lus",
  title: "Chat",
  log: "Conversation",
  message: "Message",
  send: "Envoyer",
  empty: "Dites bonjour pour commencer la conversation.",
  you: "Vous",
  bot: "Réponse",
  waiting: "Pas de connexion. Vos messages partiront dès son retour.",
  replaced: "Ce chat continue dans une autre fenêtre.",
  back: "Connexion rétablie.",
  sending: "Envoi en cours",
  sent: "Envoyé",
  failed: "Non envoyé",
  retry: "Réessayer",
  undo: "Annuler ma dernière réponse",
  undone: "Annulé",
  typing: "En train d’écrire",
  image: "Image",
  broken: "L’image n’a pas pu être chargée.",
  newTab: "nouvel onglet",
  lost: "Il manque des messages précédents.",
};
