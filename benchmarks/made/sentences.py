"""French-like sentences from words and patterns of our own: letters and wills that nobody wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

WORDS: dict[str, str] = {
    "man": "père frère fils oncle neveu cousin mari ami voisin parrain notaire maire docteur capitaine",
    "woman": "mère soeur fille tante nièce cousine femme amie voisine marraine épouse veuve filleule",
    "thing": "maison terre vigne somme montre bague table armoire bibliothèque pension rente lettre malle ferme "
    "chambre forêt prairie part moitié collection horloge charrue vache jument boutique barque",
    "good": "jardin champ moulin pré livret coffre lit buffet cheval fusil bureau portrait argenterie capital "
    "mobilier domaine verger puits fauteuil manuscrit violon troupeau hangar étang",
    "verb": "lègue donne laisse remets confie dois rends offre promets destine envoie cède réserve",
    "wish": "désire veux demande souhaite espère exige préfère entends",
    "act": "garder vendre partager reprendre recevoir payer brûler choisir élever remercier enterrer habiter "
    "distribuer conserver rembourser prévenir entretenir bâtir racheter oublier",
    "adj": "petit grand vieux cher bon pauvre dernier premier seul jeune fidèle noir vert propre léger",
    "adj_f": "petite grande vieille chère bonne pauvre dernière première seule jeune fidèle noire verte blanche",
    "month": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "number": "deux trois quatre cinq six sept huit dix douze quinze vingt trente quarante cent mille",
    "when": "demain bientôt toujours aujourd'hui jamais après avant longtemps déjà encore ici là-bas",
    "given": "Jeanne Marie Louise Paul Henri Émile Jules Berthe Lucien Zoé Hélène Xavier Yvonne Gustave Odile "
    "Fernand Kléber Noël Irma Rosalie Théodore Victor Élise Ursule Quentin Waldeck Désiré Aimée",
    "street": "rue quai place avenue chemin impasse faubourg route",
    "trade": "boulanger menuisier instituteur caporal cordonnier vigneron facteur meunier sergent tailleur maçon",
    "link": "et mais car puis aussi donc or ensuite enfin pourtant",
}

PATTERNS = (
    "Je soussigné [given] [name], [trade] à [town], déclare ceci",
    "je [verb] à mon [man] [given] la [adj_f] [thing] de [town]",
    "je [verb] à ma [woman] mon [adj] [good] et la [thing]",
    "je [wish] que mon [man] puisse [act] le [good] de [town]",
    "ma [adj_f] [woman] devra [act] ma [thing] [when]",
    "fait à [town] le [digit] [month] [year]",
    "la somme de [number] mille francs ([money] fr.)",
    "né le [digit] [month] [year] à [town]",
    "demeurant [street] [name], n. [digit], à [town]",
    "il faudra [act] le [good], [act] la [thing] : voilà tout",
    "si je meurs [when], que l'on prévienne [given] [name]",
    "ses [number] enfants auront [number] parts égales",
    "M. [name] ([trade]) me doit [money] fr. depuis [month]",
    "nous étions très bien ici, mais le [adj] [man] est parti",
    "qu'il n'y ait ni fleurs ni discours ; j'y tiens",
    "c'est là où j'ai reçu ta [thing], ma [adj_f] [woman]",
    "[link] [given]-[given] garde les clés du [good]",
    "voilà [number] mois que je n'ai plus vu ton [man]",
    "tout ce que je possède à [town], de la cave au grenier",
)

SYLLABLES = [
    "bo",
    "va",
    "lar",
    "mou",
    "ri",
    "ger",
    "che",
    "no",
    "dan",
    "ver",
    "sau",
    "ple",
    "tin",
    "fa",
    "gue",
    "jol",
    "bri",
    "ma",
    "cor",
    "ha",
    "ze",
    "lou",
    "pi",
    "quin",
    "ro",
    "thi",
    "be",
    "la",
    "cha",
    "fré",
    "mé",
    "vau",
    "du",
    "xi",
    "wa",
    "ko",
    "tré",
    "gny",
]
ENDINGS = [
    "on",
    "el",
    "ard",
    "in",
    "et",
    "ier",
    "aud",
    "ot",
    "eau",
    "ac",
    "y",
    "ez",
    "ois",
    "ine",
    "euil",
    "ers",
]
TOWNS = ("Saint-", "", "", "La ", "", "Mont-", "")


def text(rng: np.random.Generator) -> Iterator[str]:
    """Words without end."""
    words = {kind: known.split() for kind, known in WORDS.items()}

    def name() -> str:
        middle = "".join(rng.choice(SYLLABLES) for _ in range(rng.integers(1, 3)))
        return (middle + rng.choice(ENDINGS)).capitalize()

    def fill(slot: re.Match[str]) -> str:
        match slot[1]:
            case "name":
                return name()
            case "town":
                return rng.choice(TOWNS) + name()
            case "digit":
                return str(rng.integers(1, 32))
            case "year":
                return str(rng.integers(1780, 1930))
            case "money":
                return str(rng.integers(2, 9999))
            case kind:
                return str(rng.choice(words[kind]))

    start = True
    while True:
        sentence = re.sub(r"\[(\w+)\]", fill, str(rng.choice(PATTERNS))).replace("'", "’")
        if start:
            sentence = sentence[0].upper() + sentence[1:]
        start = bool(rng.random() < 0.4)
        yield from (sentence + ("." if start else rng.choice([",", "", " -", ";"]))).split()


def lines(rng: np.random.Generator, count: int) -> list[str]:
    """So many lines of a running text, as long as each other but for a tenth, of which some are short."""
    words, usual = text(rng), rng.uniform(18, 42)
    found = []
    for _ in range(count):
        wanted = usual * (rng.uniform(0.25, 0.8) if rng.random() < 0.12 else rng.uniform(0.9, 1.1))
        line = next(words)
        while len(line) < wanted:
            line += " " + next(words)
        found.append(line)
    return found
